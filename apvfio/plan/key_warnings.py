# SPDX-License-Identifier: Apache-2.0
"""What comes to a guest with its queues: master keys, and the traces of those who had them before.

A queue that changes hands is reset, but its master keys stay. Whoever has the queue can use
every key that is wrapped with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import printable
from apvfio.model.text import some_queues

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText


def key_warnings(request: Request, ledger: Ledger, keyed: Collection[Apqn]) -> Iterator[WarningText]:
    """Warnings, in sentences; ``keyed`` are the queues asked for that carry master keys now."""
    if keyed:
        one = len(keyed) == 1
        yield (
            f"{some_queues(keyed)} {'carries' if one else 'carry'} master keys, "
            f"and the guest will be able to use {'it' if one else 'them'} with keys wrapped by those"
        )
    before: dict[str, list[Apqn]] = {}
    for queue in request.matrix.queues():
        guest = ledger.last_holder.get(queue, request.guest)
        if guest != request.guest:
            before.setdefault(guest, []).append(queue)
    for guest, queues in sorted(before.items()):
        yield (
            f"guest {printable(guest)} had {some_queues(queues)} before: "
            f"master keys it set there are still in place"
        )

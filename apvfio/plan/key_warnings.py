# SPDX-License-Identifier: Apache-2.0
"""Warnings about what a guest gets with its queues: master keys, and keys that former holders have set.

A queue that gets another owner is reset, but its master keys stay. Its owner can use every secure key that is
wrapped with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import printable
from apvfio.model.text import some_queues
from apvfio.plan.secure_execution import shared_key_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apvfio.model.ledger import Ledger
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText


def key_warnings(request: Request, ledger: Ledger, keys: Mapping[Apqn, SeenKeys]) -> Iterator[WarningText]:
    """Return warnings, in sentences, about the known ``keys`` of the requested queues."""
    keyed = [queue for queue, seen in keys.items() if seen.fresh and seen.mkvps]
    if keyed:
        one = len(keyed) == 1
        yield (
            f"{some_queues(keyed)} {'has' if one else 'have'} master keys: "
            "the guest will be able to use secure keys that they wrap"
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


def dependence_warnings(request: Request, keys: Mapping[Apqn, SeenKeys]) -> Iterator[WarningText]:
    """Warnings, in sentences, for a guest that depends on the ``keys`` of the queues that it gets.

    It names a key, and one that is remembered proves nothing; or its queues' keys must differ.
    """
    named = [cards for cards in request.criteria.cards if cards.keys] if request.criteria else []
    old = {
        queue: seen
        for queue, seen in keys.items()
        if not seen.fresh and any(cards.meets(seen.keys) for cards in named)
    }
    if old:
        since = min(old.values(), key=lambda seen: seen.seen).when
        yield (
            f"the master key of {some_queues(old)} cannot be read now, and is the one remembered "
            f"since {since}: a key ceremony may have changed it"
        )
    if request.secure:
        yield from shared_key_warnings(keys)

# SPDX-License-Identifier: Apache-2.0
"""Messages for a guest's owner when mdevctl changes the guest's device or its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.mdev.callouts import DEFINE, MODIFY, UNDEFINE
from apvfio.model.errors import RequestError, printable
from apvfio.model.ledger import HELD
from apvfio.model.text import some_queues
from apvfio.store.definitions import load_definition, matrix_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import Files
    from apvfio.mdev.callouts import Call
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.text import WarningText


def news(call: Call, host: Host, ledger: Ledger, files: Files) -> list[str]:
    """Return how the device of ``call`` and its definition differ from the guest's lease, with remedies."""
    lease = ledger.leases.get(call.uuid)
    if lease is None or lease.state != HELD:
        return []
    found = [*_of_device(lease, host)]
    if call.action in (DEFINE, MODIFY, UNDEFINE):
        found += _of_definition(lease, files)
    return [f"guest {printable(lease.guest)}: {sentence}" for sentence in found]


def _of_device(lease: Lease, host: Host) -> Iterator[WarningText]:
    there = host.mdevs.get(lease.mdev)
    if there is None:
        queues = some_queues(list(lease.matrix.queues()))
        yield (
            f"its mediated device {lease.mdev} was removed, and the guest has lost {queues}. "
            "Shut the guest down and start it to get the queues back."
        )
    elif there != lease.matrix:
        yield (
            f"its mediated device {lease.mdev} holds {there} instead of "
            f"{lease.matrix}. Undo the change, or change its annotation and start it again."
        )


def _of_definition(lease: Lease, files: Files) -> Iterator[WarningText]:
    try:
        definition = load_definition(files, lease.mdev)
        defined = matrix_of(definition) if definition else None
    except RequestError as error:
        yield str(error)
        return
    if defined and defined != lease.matrix:
        yield (
            f"mdevctl's definition of its device {lease.mdev} has {defined}, but the guest "
            f"has {lease.matrix}. Make both agree before its next start."
        )

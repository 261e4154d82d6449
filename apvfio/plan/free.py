# SPDX-License-Identifier: Apache-2.0
"""Whether the queues and the device that a guest asks for are to be had: neither somebody's nor reserved."""

from __future__ import annotations

from apvfio.errors import ConflictError, PolicyError, printable
from apvfio.host import VFIO_DRIVER
from apvfio.plan.overrides import override_path
from apvfio.wording import some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.host import Host
    from apvfio.ledger import Ledger
    from apvfio.matrix import Apqn, Matrix
    from apvfio.policy import Policy
    from apvfio.request import Request


def require_free(request: Request, host: Host, ledger: Ledger) -> bool:
    """Whether the mdev is ours to make and remove; ConflictError if anything asked for is not free."""
    require_no_rival(request, host, ledger)
    there = host.mdevs.get(request.mdev)
    if there is None or request.mdev in ledger.doomed():
        return True
    if there == request.matrix:
        return False
    raise ConflictError(
        f"the mediated device {request.mdev} is there already, with {there} "
        f"where {request.source} asks for {request.matrix}.",
        remedy="Remove the device, or make the two agree.",
    )


def require_no_rival(request: Request, host: Host, ledger: Ledger) -> None:
    """ConflictError if a lease, a promise or another device has the queues, or the first two the device."""
    for lease in ledger.spans():
        if lease.mdev == request.mdev:
            raise ConflictError(
                f"the mediated device {request.mdev} is held by guest {printable(lease.guest)}.",
                remedy="Give each guest a device of its own.",
            )
        if request.matrix.meets(lease.matrix):
            raise _overlap(request.matrix, lease.matrix, f"guest {printable(lease.guest)}")
    for promise in ledger.promises.values():
        if promise.mdev == request.mdev:
            raise ConflictError(
                f"the mediated device {request.mdev} is just being started by mdevctl "
                f"(process {promise.process.pid}).",
                remedy="Try again when that has ended.",
            )
        if request.matrix.meets(promise.matrix):
            raise _overlap(request.matrix, promise.matrix, f"the mediated device {promise.mdev}")
    doomed = ledger.doomed()
    for uuid, matrix in host.mdevs.items():
        if uuid != request.mdev and uuid not in doomed and request.matrix.meets(matrix):
            raise _overlap(request.matrix, matrix, f"the mediated device {uuid}")


def others(request: Request, host: Host, ledger: Ledger) -> list[Matrix]:
    """What the mdevs hold that stay when this guest has started."""
    going = {request.mdev, *ledger.doomed()}
    return [matrix for uuid, matrix in host.mdevs.items() if uuid not in going]


def require_unreserved(queues: Iterable[Apqn], policy: Policy) -> None:
    """PolicyError if one of ``queues`` is reserved for the host."""
    reserved = [queue for queue in queues if policy.reserves(queue)]
    if reserved:
        raise PolicyError(
            f"{some_queues(reserved)} {'is' if len(reserved) == 1 else 'are'} reserved for the host.",
            queues=reserved,
            remedy="Ask for other queues, or change /etc/apvfio/apvfio.toml.",
        )


def require_no_strange_override(matrix: Matrix, host: Host) -> None:
    """An override that names another driver than vfio_ap is somebody's decision about that queue."""
    strange = [q for q in matrix.queues() if host.overrides.get(q, VFIO_DRIVER) != VFIO_DRIVER]
    if strange:
        named = printable(host.overrides[strange[0]])
        raise ConflictError(
            f"{some_queues(strange)} {'is' if len(strange) == 1 else 'are'} kept for the driver {named!r} "
            "by driver_override.",
            queues=strange,
            remedy=f"Clear it: echo > /sys/{override_path(strange[0])}.",
        )


def _overlap(asked: Matrix, held: Matrix, holder: str) -> ConflictError:
    queues = list(asked.overlap(held).queues())
    return ConflictError(
        f"{some_queues(queues)} {'is' if len(queues) == 1 else 'are'} held by {holder}.",
        queues=queues,
        remedy="Stop that guest, or ask for other queues.",
    )

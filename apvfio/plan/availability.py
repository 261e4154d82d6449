# SPDX-License-Identifier: Apache-2.0
"""Whether the queues and the device that a guest requests are available: neither held nor reserved."""

from __future__ import annotations

from apvfio.model.errors import ConflictError, PolicyError, printable
from apvfio.model.host import VFIO_DRIVER
from apvfio.model.text import some_queues
from apvfio.plan.overrides import override_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.policy import Policy
    from apvfio.model.process import Process
    from apvfio.model.request import Request


class HeldByDeviceError(ConflictError):
    """A mediated device without a lease is in the way; a plan does not know who uses it."""

    def __init__(self, sentence: str, *, mdev: str, remedy: str, queues: Iterable[Apqn] = ()) -> None:
        super().__init__(sentence, queues=queues, remedy=f"Remove that device, or {remedy}")
        self.mdev = mdev
        self.instead = remedy
        """What to do where the device must stay."""

    def used_by(self, process: Process | None, *, busy: bool) -> HeldByDeviceError:
        """The same error with its remedy, once it is known whether the device is in use."""
        if process or busy:
            who = f"the guest of process {process.pid}" if process else "the guest"
            self.remedy = f"Stop {who}, which uses that device, or {self.instead}"
        else:
            self.remedy = f"No guest uses it: remove it with 'mdevctl stop -u {self.mdev}', or {self.instead}"
        return self


def require_free(request: Request, host: Host, ledger: Ledger) -> bool:
    """Whether the mdev is ours to make and remove; ConflictError if anything requested is not free."""
    require_no_rival(request, host, ledger)
    there = host.mdevs.get(request.mdev)
    if there is None or request.mdev in ledger.mdevs_to_remove():
        return True
    if there == request.matrix:
        return False
    raise HeldByDeviceError(
        f"the mediated device {request.mdev} already exists with {there}, "
        f"but {request.source} requests {request.matrix}.",
        mdev=request.mdev,
        remedy="make the two agree.",
    )


def require_no_rival(request: Request, host: Host, ledger: Ledger) -> None:
    """ConflictError if a lease, a claim or another device has the queues, or the first two the device."""
    for lease in ledger.leases_and_before():
        if lease.mdev == request.mdev:
            raise ConflictError(
                f"the mediated device {request.mdev} is held by guest {printable(lease.guest)}.",
                remedy=own_device(request.guest),
            )
        if request.matrix.meets(lease.matrix):
            guest = f"guest {printable(lease.guest)}"
            raise _overlap(request, lease.matrix, guest, "Stop that guest, or request other queues.")
    for claim in ledger.claims.values():
        if claim.mdev == request.mdev:
            raise ConflictError(
                f"the mediated device {request.mdev} is being started by mdevctl "
                f"(process {claim.process.pid}).",
                remedy="Try again when that has ended.",
            )
        if request.matrix.meets(claim.matrix):
            device = f"the mediated device {claim.mdev}, which mdevctl is starting"
            raise _overlap(request, claim.matrix, device, "Try again later, or request other queues.")
    to_remove = ledger.mdevs_to_remove()
    for uuid, matrix in host.mdevs.items():
        if uuid != request.mdev and uuid not in to_remove and request.matrix.meets(matrix):
            queues = list(request.matrix.overlap(matrix).queues())
            raise HeldByDeviceError(
                f"{some_queues(queues)} {_verb(queues)} held by the mediated device {uuid}.",
                mdev=uuid,
                queues=queues,
                remedy="request other queues.",
            )


def others(request: Request, host: Host, ledger: Ledger) -> list[Matrix]:
    """What the mdevs hold that stay when this guest has started."""
    going = {request.mdev, *ledger.mdevs_to_remove()}
    return [matrix for uuid, matrix in host.mdevs.items() if uuid not in going]


class DrainedError(PolicyError):
    """Guests do not get a queue because its adapter or domain is drained for a planned change."""


def require_unreserved(queues: Iterable[Apqn], policy: Policy) -> None:
    """PolicyError if one of ``queues`` is reserved for the host or drained."""
    queues = list(queues)
    drained = [queue for queue in queues if policy.drained.holds(queue)]
    if drained:
        raise DrainedError(
            f"{some_queues(drained)} {'is' if len(drained) == 1 else 'are'} drained for a planned change.",
            queues=drained,
            remedy="Request other queues, or end the drain: 'apvfio status' shows it, and "
            "'apvfio drain --restore' ends all drains.",
        )
    reserved = [queue for queue in queues if policy.reserves(queue)]
    if reserved:
        raise PolicyError(
            f"{some_queues(reserved)} {'is' if len(reserved) == 1 else 'are'} reserved for the host.",
            queues=reserved,
            remedy="Request other queues, or change /etc/apvfio/apvfio.toml.",
        )


def require_no_strange_override(matrix: Matrix, host: Host) -> None:
    """HostError for an override with another driver than vfio_ap: somebody has decided that."""
    strange = [q for q in matrix.queues() if host.overrides.get(q, VFIO_DRIVER) != VFIO_DRIVER]
    if strange:
        named = printable(host.overrides[strange[0]])
        raise ConflictError(
            f"{some_queues(strange)} {'is' if len(strange) == 1 else 'are'} kept for the driver {named!r} "
            "by driver_override.",
            queues=strange,
            remedy=f"Clear it: echo > /sys/{override_path(strange[0])}.",
        )


def _overlap(request: Request, held: Matrix, holder: str, remedy: str) -> ConflictError:
    queues = list(request.matrix.overlap(held).queues())
    return ConflictError(
        f"{some_queues(queues)} {_verb(queues)} held by {holder}.", queues=queues, remedy=remedy
    )


def _verb(queues: list[Apqn]) -> str:
    return "is" if len(queues) == 1 else "are"


def own_device(guest: str) -> str:
    """The remedy for a clone, which has its original's device."""
    if not guest:
        return "Give each guest its own mediated device."
    return f"Give this guest its own device: 'apvfio guest set {_word(guest)} --new-device'."


def _word(name: str) -> str:
    """A guest's name as a shell takes it for one word."""
    if all(c.isascii() and (c.isalnum() or c in "-_.+:@") for c in name):
        return name
    return "'" + printable(name).replace("'", "'\\''") + "'"

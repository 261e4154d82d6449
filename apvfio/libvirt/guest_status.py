# SPDX-License-Identifier: Apache-2.0
"""The state of each guest that requests or holds queues: its lease and its next start."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import request_of
from apvfio.engine.plan_start import all_named, plan_start
from apvfio.kernel.usage import read_usage
from apvfio.libvirt import hotplug
from apvfio.libvirt.status import read_status
from apvfio.model.errors import ApvfioError
from apvfio.plan.guest_pairs import Pair, pairs_apart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest
    from apvfio.libvirt.status import Status
    from apvfio.model.ledger import Lease
    from apvfio.model.request import Request

RUNNING = "running"
SHUT_OFF = "shut off"
SAVED = "saved"


class KnownGuest(NamedTuple):
    """A guest as libvirt knows it."""

    name: str
    """Untrusted text."""
    uuid: str
    active: bool
    request: Request | ApvfioError | None
    """The request of its next start, None without one; or the error in it."""
    device: str | None = None
    """The vfio-ap device that it has while it runs."""
    saved: bool = False
    """Whether its next start restores a managed save."""

    @property
    def state(self) -> str:
        """One of `RUNNING`, `SAVED` and `SHUT_OFF`."""
        return RUNNING if self.active else SAVED if self.saved else SHUT_OFF


class GuestStatus(NamedTuple):
    """One guest."""

    name: str
    """Untrusted text."""
    state: str
    request: Request | None
    """The request of its next start; None if there is none, or an invalid one."""
    lease: Lease | None
    error: ApvfioError | None
    """Why it cannot start, if it does not run; or the error in its annotation."""
    known: bool
    """Whether this host could be asked."""
    faults: tuple[str, ...] = ()
    """What keeps the running guest from queues that it holds or had, in clauses."""
    device: str | None = None
    """The vfio-ap device that it has while it runs."""

    @property
    def can_start(self) -> bool | None:
        """Whether it could start now; None if it runs, or nobody knows."""
        if self.error and not self.request:
            return False
        return None if self.state == RUNNING or not self.known else self.error is None

    @property
    def asks(self) -> str:
        """What it requests, in words."""
        if self.request is None:
            return "?" if self.error else "nothing"
        secure = " (Secure Execution)" if self.request.secure else ""
        return f"{self.request.criteria or self.request.matrix}{secure}"

    @property
    def now(self) -> str:
        """What there is to say of it at this moment."""
        if self.state == RUNNING and self.known:
            return "; ".join([self._running(), *([self._wrong()] if self.error else [])])
        if self.error:
            return self._wrong()
        if not self.known:
            return "this host cannot be asked"
        left = "; the queues of its last run are not returned yet: 'apvfio reconcile' returns them"
        return f"can start{left if self.lease else ''}"

    def _wrong(self) -> str:
        return self.error.clause if self.error else ""

    def _running(self) -> str:
        if self.lease is None and self.faults:
            return f"has no queues: {'; '.join(self.faults)}"
        if self.lease is None:
            device = f", but has the mediated device {self.device}" if self.device else ""
            return f"has no queues from apvfio{device}"
        if self.faults:
            return f"holds {self.lease.matrix}, but {'; '.join(self.faults)}"
        if self.request is None:
            then = "" if self.error else ", and will have none at its next start"
            return f"has {self.lease.matrix}{then}"
        wanted = None if self.request.criteria else self.request.matrix
        if wanted is None or wanted == self.lease.matrix:
            return "has its queues" if wanted else f"has {self.lease.matrix}"
        return f"has {self.lease.matrix}; its next start requests other queues"


def guest_statuses(
    system: System, guests: Iterable[Guest], *, every: bool = False
) -> tuple[list[GuestStatus], list[Pair]]:
    """All ``guests`` that request, hold or run with something, and the pairs that cannot run together.

    With ``every`` the guests without AP queues as well.

    Where the host cannot be asked, as it has no AP bus or is not this machine, that alone is left open.
    """
    try:
        seen: Status | None = read_status(system, states=False)
    except ApvfioError:
        seen = None
    found = []
    for known in (_known(system, guest) for guest in guests):
        one = _guest_status(system, seen, known)
        if one is None and every:
            one = GuestStatus(known.name, known.state, None, None, None, seen is not None)
        found += [one] if one else []
    requests = [one.request for one in found if one.request]
    if seen is None or seen.policy_error or len(requests) < 2:
        return found, []
    named, _ = all_named(system, requests, *seen.scene)
    facts = read_usage(system, seen.host, [request.matrix for request in named], seen.policy)
    return found, list(pairs_apart(named, *seen.scene, facts))


def _known(system: System, guest: Guest) -> KnownGuest:
    active = guest.active
    try:
        asks: Request | ApvfioError | None = request_of(system.files, guest.next_xml())
    except ApvfioError as nonsense:
        asks = nonsense
    device = None
    try:
        device = hotplug.attached(guest) if active else None
    except ApvfioError:
        active = guest.active  # it has ended meanwhile, or its XML says nothing of a device
    return KnownGuest(guest.name, guest.uuid, active, asks, device, guest.saved)


def _guest_status(system: System, seen: Status | None, guest: KnownGuest) -> GuestStatus | None:
    """Where the guest stands; None if it requests nothing, holds nothing and runs with no vfio-ap device."""
    found = guest_status(seen, guest)
    if found and seen and found.request and not guest.active:
        error = seen.policy_error or _refusal(system, seen, found.request)
        return found._replace(error=error)
    return found


def guest_status(seen: Status | None, guest: KnownGuest) -> GuestStatus | None:
    """The same without whether it could start; pure. ``seen`` is None where no host can be asked."""
    lease = seen.lease(guest.uuid) if seen else None
    if guest.request is None and lease is None and guest.device is None:
        return None
    error = guest.request if isinstance(guest.request, ApvfioError) else None
    request = None if isinstance(guest.request, ApvfioError) else guest.request
    faults = tuple(_faults(seen, lease, guest)) if seen and guest.active else ()
    return GuestStatus(
        guest.name, guest.state, request, lease, error, seen is not None, faults, device=guest.device
    )


def _faults(seen: Status, lease: Lease | None, guest: KnownGuest) -> Iterable[str]:
    if lease is None:
        if guest.device and guest.device not in seen.host.mdevs:
            yield f"its mediated device {guest.device} is gone"
        return
    yield from seen.faults(lease)
    if guest.device is None and lease.expected:
        yield "its device is unplugged for a migration"
    elif guest.device != lease.mdev:
        device = f"the device {guest.device}" if guest.device else "no device"
        yield f"it has {device} instead of {lease.mdev}"


def _refusal(system: System, seen: Status, request: Request) -> ApvfioError | None:
    try:
        plan_start(system, request, seen.scene)
    except ApvfioError as error:
        return error
    return None

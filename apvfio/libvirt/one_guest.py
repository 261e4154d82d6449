# SPDX-License-Identifier: Apache-2.0
"""One guest: its request, its device and queues, its next start, and its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.preview import preview_start
from apvfio.events import audit_log
from apvfio.libvirt.guest_status import RUNNING, SHUT_OFF, GuestStatus, guest_statuses
from apvfio.libvirt.guests import Guests
from apvfio.libvirt.status import read_status
from apvfio.model.errors import ApvfioError, RequestError, printable
from apvfio.model.similar import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.events.event import Event
    from apvfio.kernel.seam import System
    from apvfio.libvirt.status import Status
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn
    from apvfio.model.process import Process
    from apvfio.plan.guest_pairs import Pair
    from apvfio.plan.pending_returns import PendingReturn
    from apvfio.plan.start_plan import Plan

UNKNOWN = "unknown"
"""The state of a guest that libvirt does not know, or was not able to tell, where processes are unknown."""
_EVENTS = 5


class OneGuest(NamedTuple):
    """What there is to say of one guest."""

    uuid: str
    status: GuestStatus
    found: Status
    """Of the whole host."""
    pairs: tuple[Pair, ...]
    """Of this guest with others, which cannot run together with it."""
    plan: Plan | None
    """Of its next start; None if it requests nothing, or cannot start."""
    plan_error: ApvfioError | None
    """Why it cannot start."""
    events: tuple[Event, ...]
    """The last events of the audit log that concern it."""
    opener: Process | None
    """The process that has its mediated device open."""
    libvirt_error: ApvfioError | None
    """Why libvirt does not tell of it, None if it does."""

    @property
    def lease(self) -> Lease | None:
        """What it holds by apvfio."""
        return self.status.lease

    @property
    def mdev(self) -> str | None:
        """Its mediated device: the one it runs with, else that of its lease, else that of its definition."""
        named = self.lease.mdev if self.lease else self.plan_mdev
        return self.status.device or named

    @property
    def plan_mdev(self) -> str | None:
        """The mediated device that its next start uses."""
        return self.status.request.mdev if self.status.request else None

    @property
    def requested(self) -> list[Apqn]:
        """The queues that its next start requests; those that criteria would get now."""
        if self.plan:
            return list(self.plan.request.matrix.queues())
        request = self.status.request
        return list(request.matrix.queues()) if request and not request.criteria else []

    @property
    def held(self) -> list[Apqn]:
        """The queues of its lease."""
        return list(self.lease.matrix.queues()) if self.lease else []

    @property
    def pending(self) -> list[PendingReturn]:
        """The pending returns that wait for it."""
        return [one for one in self.found.pending if self.mdev in {owner.mdev for owner in one.holders}]


def read_guest(system: System, name: str, connect: str) -> OneGuest:
    """Read it; ``name`` is the guest's name, its UUID or, of a running guest, its id.

    A guest that libvirt at ``connect`` does not know, or does not tell of, is shown as the ledger and the
    audit log know it. RequestError if nobody knows it.
    """
    found = read_status(system)
    log = [event for event in audit_log.read(system.files) if event]
    error: ApvfioError | None = None
    pairs: list[Pair] = []
    try:
        uuid, status, pairs = _by_libvirt(system, name, connect)
    except ApvfioError as why:
        error = why
        uuid, status = _by_records(found, log, name, why)
    plan, plan_error = None, status.error
    if status.request:
        try:
            plan = preview_start(system, status.request, runs=status.state == RUNNING)
        except ApvfioError as why:
            plan_error = why
    one = OneGuest(
        uuid=uuid,
        status=status,
        found=found,
        pairs=tuple(pair for pair in pairs if status.name in (pair.first, pair.second)),
        plan=plan,
        plan_error=plan_error,
        events=tuple([event for event in log if event.uuid == uuid][-_EVENTS:]),
        opener=None,
        libvirt_error=error,
    )
    return one._replace(opener=system.opener(one.mdev) if one.mdev else None)


def guest_in_log(name: str, log: Sequence[Event], connect: str) -> str | None:
    """The UUID of the guest ``name``, a name, UUID or id; None if events of several guests have that name.

    RequestError if the audit log has no event of it, and libvirt at ``connect`` knows no such guest.
    """
    uuids = {event.uuid for event in log if name in (event.guest, event.uuid)}
    if uuids:
        return uuids.pop() if len(uuids) == 1 else None
    try:
        with Guests(connect) as guests:
            return guests.find(name).uuid
    except ApvfioError:
        close = did_you_mean(name, sorted({event.guest for event in log if event.guest}))
        raise RequestError(
            f"the audit log has no event of a guest {printable(name)}.",
            remedy=f"{close}'apvfio log' shows the events of all guests.",
        ) from None


def _by_libvirt(system: System, name: str, connect: str) -> tuple[str, GuestStatus, list[Pair]]:
    with Guests(connect) as guests:
        guest = guests.find(name)
        everyone, pairs = guest_statuses(system, guests.all(), every=True)
        uuid, name = guest.uuid, guest.name
    return uuid, next(one for one in everyone if one.name == name), pairs


def _by_records(
    found: Status, log: Sequence[Event], name: str, error: ApvfioError
) -> tuple[str, GuestStatus]:
    """The guest by ledger and audit log; raises ``error`` if neither knows it."""
    leases = [lease for lease in found.ledger.leases.values() if name in (lease.guest, lease.uuid)]
    events = [event for event in log if name in (event.guest, event.uuid)]
    if not leases and not events:
        raise error
    last = leases[-1] if leases else events[-1]
    state = UNKNOWN
    if found.running is not None:
        state = RUNNING if last.uuid in found.running else SHUT_OFF
    lease = found.lease(last.uuid)
    faults = tuple(found.faults(lease)) if lease and state == RUNNING else ()
    return last.uuid, GuestStatus(last.guest, state, None, lease, None, True, faults)

# SPDX-License-Identifier: Apache-2.0
"""Move guests away from adapters or domains before a planned change, and back after it.

A guest with criteria gets other queues while it runs. A guest that requests ids keeps its queues until it is
stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import parse_domain
from apvfio.engine import drain as engine
from apvfio.engine.reconcile import reconcile_host
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import live_guest
from apvfio.libvirt.live_guest import this_process
from apvfio.libvirt.users import foreign_devices
from apvfio.model.drain import MovedGuest
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import ENDING
from apvfio.store.drain_file import load_drains
from apvfio.store.ledger_file import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest
    from apvfio.libvirt.users import ForeignDevice
    from apvfio.model.drain import Drain
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn, Area, Matrix
    from apvfio.model.request import Request
    from apvfio.plan.live_change import LivePlan

BY_ID = "it requests its queues by id"
SECURE = "it is a Secure Execution guest, which would have to bind and associate other queues itself"
NOT_OURS = "apvfio did not create its mediated device"
ARRIVING = "it is being migrated, or may return from a migration"
NOT_RUNNING = "libvirt knows no such running guest"


class Move(NamedTuple):
    """A running guest that gets other queues."""

    guest: Guest
    request: Request
    lease: Lease
    """What it has before."""
    change: LivePlan


class Stays(NamedTuple):
    """A guest that is not moved."""

    name: str
    """Untrusted text."""
    uuid: str
    queues: tuple[Apqn, ...]
    why: str
    """A clause."""
    must_stop: bool
    """Whether the guest must be stopped to remove it from the queues."""


class DrainPlan(NamedTuple):
    """What a drain of an area does, or has left to do."""

    area: Area
    moves: tuple[Move, ...]
    stays: tuple[Stays, ...]
    devices: tuple[ForeignDevice, ...]
    """Mediated devices of others that have queues of the area."""
    overrides: dict[Apqn, str]
    """The overrides that are cleared."""

    @property
    def is_done(self) -> bool:
        """Whether nobody is left on the area."""
        return not (self.moves or self.stays or self.devices)


class RestorePlan(NamedTuple):
    """What the restore of a drain does."""

    drain: Drain
    moves: tuple[Move, ...]
    stays: tuple[Stays, ...]
    """Guests that were moved and are not moved back."""
    start_again: tuple[str, ...]
    """The names of guests that had to be stopped and do not run: untrusted text."""


def holders(system: System, area: Area) -> list[Lease]:
    """Return the leases with queues of ``area``, also those that a live change is about to give up."""
    leases = load(system.files, system.boot_id).leases.values()
    return [
        lease
        for lease in leases
        if area.meets(lease.matrix) or (lease.before and area.meets(lease.before.matrix))
    ]


def plan_drain(system: System, area: Area, running: dict[str, Guest]) -> DrainPlan:
    """Return what `drain` would do; ``running`` are libvirt's running guests by their uuids."""
    movable, stays = [], []
    for lease in holders(system, area):
        guest = running.get(lease.uuid)
        request = _request(guest)
        why = _stays_because(lease, guest, request)
        if why or guest is None or request is None:
            stops = lease.state != ENDING and guest is not None
            stays.append(_stays(lease, area, why or NOT_RUNNING, must_stop=stops))
        else:
            movable.append((guest, request, lease))
    changes = engine.preview_moves(system, area, [request for _, request, _ in movable], this_process())
    moves = []
    for (guest, request, lease), change in zip(movable, changes):
        if isinstance(change, ApvfioError):
            stays.append(_stays(lease, area, f"it cannot be moved: {change.clause}", must_stop=True))
        else:
            moves.append(Move(guest, request, lease, change))
    devices = foreign_devices(system, read_host(system.sysfs), load(system.files, system.boot_id), area)
    return DrainPlan(area, tuple(moves), tuple(stays), devices, engine.idle_overrides_of(system, area))


def drain(system: System, area: Area, running: dict[str, Guest]) -> tuple[DrainPlan, DrainPlan]:
    """Drain ``area``; return what was done, and what is left.

    The drain is recorded first, so that no guest starts with its queues. A guest whose change fails keeps its
    queues and is among those left.
    """
    engine.begin_drain(system, area)
    # Guests that have ended are not moved, and interrupted live changes are undone first.
    reconcile_host(system)
    planned = plan_drain(system, area, running)
    engine.note_stopped(system, area, [one.name for one in planned.stays if one.must_stop])
    done, failed = [], {}
    for move in planned.moves:
        lease = move.lease
        moved = MovedGuest(lease.guest, lease.uuid, lease.matrix, system.boot_id, lease.since)
        engine.note_moved(system, area, moved)
        try:
            live_guest.give(system, move.guest, move.request, move.guest.annotation_text(live=True))
        except ApvfioError as error:
            failed[lease.uuid] = f"its queues could not be changed: {error.clause}"
        else:
            done.append(move)
    cleared = engine.clear_overrides(system, area)
    left = plan_drain(system, area, running)
    stays = [*left.stays]
    for move in left.moves:
        why = failed.get(move.lease.uuid, "it started meanwhile")
        stays.append(_stays(move.lease, area, why, must_stop=True))
    engine.note_stopped(system, area, [one.name for one in stays if one.must_stop])
    return planned._replace(moves=tuple(done), overrides=cleared), left._replace(
        moves=(), stays=tuple(stays), overrides={}
    )


def plan_restore(system: System, drain: Drain, running: dict[str, Guest]) -> RestorePlan:
    """Return what `restore` would do for one drain."""
    moves: list[Move] = []
    stays = []
    leases = load(system.files, system.boot_id).leases.values()
    for moved in drain.moved:
        lease = next((lease for lease in leases if lease.uuid == moved.uuid), None)
        guest = running.get(moved.uuid)
        life = (system.boot_id, lease.since) if lease else None
        if guest is None or lease is None or life != (moved.boot_id, moved.since):
            continue  # it was started since, and has what its request got
        if lease.matrix == moved.before:
            continue
        move, why = _back(system, drain.area, guest, lease, moved.before)
        if move:
            moves.append(move)
        else:
            stays.append(_stays(lease, drain.area, why, must_stop=False))
    names = {guest.name for guest in running.values()}
    again = tuple(name for name in drain.stopped if name not in names)
    return RestorePlan(drain, tuple(moves), tuple(stays), again)


def restore(system: System, drain: Drain, running: dict[str, Guest]) -> RestorePlan:
    """End the drain; move the guests back that still run, as far as their former queues are free and fit."""
    engine.begin_restore(system, drain.area)
    reconcile_host(system)
    planned = plan_restore(system, drain, running)
    done, stays = [], [*planned.stays]
    for move in planned.moves:
        wanted = move.change.plan.request.matrix
        text = move.guest.annotation_text(live=True)
        try:
            live_guest.give(system, move.guest, move.request, text, wanted=wanted)
        except ApvfioError as error:
            stays.append(_stays(move.lease, drain.area, error.clause, must_stop=False))
        else:
            done.append(move)
    engine.end_drain(system, drain.area)
    return planned._replace(moves=tuple(done), stays=tuple(stays))


def find_drains(system: System, area: Area | None) -> list[Drain]:
    """Return the drain of ``area``, or all drains if it is None."""
    return [drain for drain in load_drains(system.files) if area in (None, drain.area)]


def by_uuid(guests: Iterable[Guest]) -> dict[str, Guest]:
    """Return the running ones of ``guests`` by their uuids."""
    return {guest.uuid: guest for guest in guests if guest.active}


def _request(guest: Guest | None) -> Request | None:
    """What the running guest was given its queues for; None if that is not in its annotation."""
    if guest is None:
        return None
    try:
        return parse_domain(guest.xml(live=True))
    except ApvfioError:
        return None


def _stays_because(lease: Lease, guest: Guest | None, request: Request | None) -> str:
    """Why the guest of ``lease`` is not moved, in a clause; '' if it can be."""
    if lease.expected and guest is None:
        return ARRIVING
    if guest is None:
        return NOT_RUNNING
    if not lease.created:
        return NOT_OURS
    if request is None or request.criteria is None:
        return BY_ID
    return SECURE if request.secure else ""


def _stays(lease: Lease, area: Area, why: str, *, must_stop: bool) -> Stays:
    queues = {queue for held in (lease, lease.before) if held for queue in area.queues_of(held.matrix)}
    return Stays(lease.guest, lease.uuid, tuple(sorted(queues)), why, must_stop)


def _back(system: System, area: Area, guest: Guest, lease: Lease, before: Matrix) -> tuple[Move | None, str]:
    """What moves the guest back to ``before``, or why it is not moved."""
    request = _request(guest)
    if request is None or request.criteria is None:
        return None, "its request has changed"
    try:
        change = engine.plan_back(system, area, request, before, this_process())
    except ApvfioError as error:
        return None, error.clause
    return Move(guest, request, lease, change), ""

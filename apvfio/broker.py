# SPDX-License-Identifier: Apache-2.0
"""Acquire, release, reconcile: the only place that changes a host.

Each of the three changes the ledger first and then takes the steps that are due, reading
back what each step did, because a write that succeeds proves little here: a mask write
does not report queues that failed to rebind, and an assign does not say what the guest gets.
"""

from __future__ import annotations

import time

from apvfio import ledgers, records
from apvfio.calls import Acquire, Release, answer_of, raise_from
from apvfio.errors import ApvfioError, ConflictError, printable
from apvfio.handover import Haste, Pace, take_up
from apvfio.host import VFIO_DRIVER, read_host
from apvfio.ledger import HELD, STARTING
from apvfio.liveness import now
from apvfio.plan.mode import steps_to
from apvfio.plan.steps import struck
from apvfio.policy import read_times
from apvfio.serving import busy_queues, plan_one, scene, serve, waiting_releases
from apvfio.settle import Outcome, differences, finished, settle, settled, without_abandoned
from apvfio.telling import FOR_THE_LOCK, silent
from apvfio.wording import resetting, some_queues
from apvfio.writes import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.ledger import Lease
    from apvfio.plan.planner import Plan
    from apvfio.request import Request
    from apvfio.serving import Scene
    from apvfio.sysfs import Sysfs
    from apvfio.system import System
    from apvfio.telling import Tell

_NAP = 0.05


def plan(system: System, request: Request, seen: Scene | None = None) -> Plan:
    """What `acquire` would do now, or would do if the host were as ``seen``; changes nothing.

    Here alone the cards are asked for the keys that the guest would find: it takes them a while.
    """
    from apvfio.cards import read_keyed  # noqa: PLC0415
    from apvfio.plan.hygiene import hygiene  # noqa: PLC0415

    seen = seen or scene(system)
    found = plan_one(system, request, seen)
    keyed = read_keyed(system.sysfs, seen.host, found.request.matrix)
    return found._replace(warnings=(*found.warnings, *hygiene(found.request, seen.ledger, keyed)))


def acquire(system: System, request: Request, *, deserted: Callable[[], bool] = bool) -> Lease:
    """Give a starting guest its queues: plan, free, create, assign, verify.

    On any error all goes back; a request that cannot be met leaves the host untouched. Calls that
    wait for the lock are served by the one that has it. ``deserted`` tells, when it is this one's
    turn, whether nobody waits for the guest any more: it has nothing then, ApvfioError.
    """
    with system.room.post(Acquire(request).as_json()) as mine, system.lock():
        if not deserted():
            if mine.answer is None:
                serve(system, mine, request)
            else:
                raise_from(mine.answer)
            return _claimed(system, request)
    # It may have been served; what is not claimed comes to its end.
    reconcile(system, hurry=True)
    raise ApvfioError("the daemon that started it has died.", guest=request.guest)


def release(
    system: System, guest_uuid: str, *, force: bool = False, hurry: bool = False, tell: Tell = silent
) -> Outcome:
    """Take home what the guest ``guest_uuid`` holds, and pay what can be paid.

    A device that a guest still has open is not pulled away unless ``force``: ConflictError.
    Releasing what is not held is no error: there may be debts to pay. In a ``hurry`` what the
    policy's release-budget does not allow for is left to the unit that watches for it, if one does.
    ``tell`` hears what is waited for.
    """
    times = read_times(system.files)
    pace, haste = Pace(), Haste(system.files, guest_uuid, times.release_budget) if hurry else None
    tell(FOR_THE_LOCK)
    with system.room.post(Release(guest_uuid).as_json()) as mine, system.lock():
        tell("")
        found = ledgers.load(system.files, system.boot_id)
        if mine.answer is not None:
            return Outcome([], found)
        if not force:
            deadline = time.monotonic() + times.release_wait
            for lease in found.of_guest(guest_uuid):
                _wait_until_idle(system.sysfs, lease, deadline, tell)
        host = read_host(system.sysfs)
        ledger = settled(system, found, host).ending(guest_uuid)
        others = waiting_releases(system, mine, ledger)
        for _, call in others:
            ledger = ledger.ending(call.uuid)
        first = settle(system, host, found, ledger, pace=pace, haste=haste, tell=tell)
        for ticket, _ in others:
            ticket.reply(answer_of(None))
    return finished(system, first, pace, haste, tell)


def reconcile(system: System, *, hurry: bool = False, tell: Tell = silent) -> Outcome:
    """Take whatever steps are due: what a crash left half done, and debts that can be paid now.

    In a ``hurry`` as `release`; without it also what others have handed over. ``tell`` hears what is
    waited for.
    """
    from apvfio.meant import meant_masks  # noqa: PLC0415  a start does without both
    from apvfio.plan.cleared import cleared_by_others  # noqa: PLC0415

    pace, haste, stopped = Pace(), None, {}
    if hurry:
        haste = Haste(system.files, "reconcile", read_times(system.files).release_budget)
    else:
        stopped = take_up(system.files)
    tell(FOR_THE_LOCK)
    with system.lock():
        tell("")
        host = read_host(system.sysfs)
        found = ledgers.load(system.files, system.boot_id)
        seen = differences(system, host, found)
        ledger = without_abandoned(system, settled(system, found, host), stopped)
        ledger = ledger._replace(strange=cleared_by_others(host, ledger, meant_masks(system)))
        records.catch_up(system, found)
        first = settle(system, host, found, ledger, pace=pace, haste=haste, tell=tell)
    return finished(system, first._replace(seen=tuple(seen)), pace, haste, tell)


def switch_mode(system: System, mode: str, *, tell: Tell = silent) -> Outcome:
    """Open the host for the mechanism ``mode``, and keep to it until the next boot.

    Masks an administrator narrowed are widened, overrides he set are cleared: he asked for it.
    ``tell`` hears what is waited for.
    """
    tell(FOR_THE_LOCK)
    with system.lock():
        tell("")
        host = read_host(system.sysfs)
        found = ledgers.load(system.files, system.boot_id)
        ledger = settled(system, found, host)
        if ledger.promises and host.mode not in (None, mode):
            raise ConflictError(
                f"mdevctl is just starting the mediated device {next(iter(ledger.promises))}.",
                remedy="Try again when that has ended.",
            )
        if ledger.leases and host.mode not in (None, mode):
            lease = next(iter(ledger.leases.values()))
            raise ConflictError(
                f"guest {printable(lease.guest)} holds queues.", remedy="Stop all guests first."
            )
        steps = steps_to(mode, host)
        if steps:
            tell(resetting([queue for queue, driver in host.drivers.items() if driver == VFIO_DRIVER]))
        take(system.sysfs, steps)
        records.save(system, struck(ledger, read_host(system.sysfs))._replace(mode=mode), found)
        return Outcome(steps, ledger)


def _claimed(system: System, request: Request) -> Lease:
    """The lease that was made for this call, now the guest's own."""
    found = ledgers.load(system.files, system.boot_id)
    lease = found.leases.get(request.mdev)
    if lease is None or (lease.uuid, lease.state) != (request.guest_uuid, STARTING):
        raise ApvfioError(
            "its queues were taken back before it started.", guest=request.guest, remedy="Start it again."
        )
    lease = lease._replace(state=HELD, since=now())
    ledger = found.with_lease(lease).handed(lease)
    # Only now: a choice that failed to work shall not be made again.
    records.save(system, ledger.remembering(lease.uuid, lease.matrix) if request.wish else ledger, found)
    return lease


def _wait_until_idle(sysfs: Sysfs, lease: Lease, deadline: float, tell: Tell) -> None:
    while busy := busy_queues(sysfs, lease):
        tell(f"waiting for guest {printable(lease.guest)} to let go of {some_queues(busy)}")
        if time.monotonic() > deadline:
            raise ConflictError(
                f"it still has {busy[0]} in use.",
                guest=lease.guest,
                queues=busy,
                remedy="Stop the guest first.",
            )
        time.sleep(_NAP)

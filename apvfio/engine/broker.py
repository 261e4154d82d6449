# SPDX-License-Identifier: Apache-2.0
"""Acquire, release, reconcile: the only place that changes a host.

Each of the three changes the ledger first and then takes the steps that are due, reading
back what each step did, because a write that succeeds proves little here: a mask write
does not report queues that failed to rebind, and an assign does not say what the guest gets.
"""

from __future__ import annotations

import time
from contextlib import suppress

from apvfio.engine.calls import Acquire, raise_from
from apvfio.engine.deferred import Haste, Pace, hand_over, take_up
from apvfio.engine.evidence import Evidence
from apvfio.engine.serving import plan_one, scene, serve, serve_live
from apvfio.engine.settle import Outcome, differences, finished, serve_ended, settle, settled
from apvfio.events import record
from apvfio.kernel.apply import apply_steps
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError, ConflictError, printable
from apvfio.model.host import MASK_NAMES, VFIO_DRIVER
from apvfio.model.ledger import ENDING, HELD, STARTING, MaskBits
from apvfio.model.progress import FOR_THE_LOCK, no_progress
from apvfio.model.text import resetting
from apvfio.model.typed import NamedTuple
from apvfio.plan.mechanism import steps_to_mechanism
from apvfio.plan.steps import without_returned
from apvfio.store import ledger_file, stop_records
from apvfio.store.policy_file import read_times
from apvfio.store.processes import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.engine.serving import Scene
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, LiveChange
    from apvfio.model.progress import Progress
    from apvfio.model.request import Request
    from apvfio.plan.planner import Plan


class MechanismChange(NamedTuple):
    """A change of the mechanism."""

    before: Host
    after: Host


def plan(system: System, request: Request, seen: Scene | None = None) -> Plan:
    """What `acquire` would do now, or would do if the host were as ``seen``; changes nothing.

    Here alone the cards are asked for the keys that the guest would find: it takes them a while.
    """
    from apvfio.kernel.cards import queues_with_keys  # noqa: PLC0415
    from apvfio.plan.key_warnings import key_warnings  # noqa: PLC0415

    seen = seen or scene(system)
    found = plan_one(system, request, seen)
    keyed = queues_with_keys(system.sysfs, seen.host, found.request.matrix)
    return found._replace(warnings=(*found.warnings, *key_warnings(found.request, seen.ledger, keyed)))


def acquire(
    system: System, request: Request, *, deserted: Callable[[], bool] = bool, expected: bool = False
) -> Lease:
    """Give a starting guest its queues: plan, free, create, assign, verify.

    On any error all goes back; a request that cannot be met leaves the host untouched. Calls that
    wait for the lock are served by the one that has it. ``deserted`` tells, when it is this one's
    turn, whether nobody waits for the guest any more: it has nothing then, ApvfioError. ``expected``: it will
    arrive by a migration.
    """
    with system.room.post(Acquire(request).as_json()) as mine, system.lock():
        if not deserted():
            if mine.answer is None:
                serve(system, mine, request)
            else:
                raise_from(mine.answer)
            return _claimed(system, request, expected=expected)
    # It may have been served; what is not claimed comes to its end.
    reconcile(system, hurry=True)
    raise ApvfioError("the daemon that started it has died.", guest=request.guest)


def acquire_live(system: System, request: Request, live: LiveChange) -> Lease:
    """Give a running guest that has no queues those of ``request``, for a device that ``live`` plugs in.

    The errors are those of `acquire`, and nothing is left then.
    """
    with system.lock():
        serve_live(system, request, live)
        return _claimed(system, request, expected=False)


def note_live(system: System, lease: Lease, live: LiveChange | None) -> Lease | None:
    """Record that ``live`` changes the guest of ``lease``, or with None that no live change is under way.

    Returned is the lease as it is then, None if it has ended or changed meanwhile.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        if not _is_same(lease, found.leases.get(lease.mdev)) or found.leases[lease.mdev].state != HELD:
            return None
        noted = found.leases[lease.mdev]._replace(live=live)
        record.save(system, found.with_lease(noted), found)
        return noted


def release_unplugged(system: System, lease: Lease, *, tell: Progress = no_progress) -> Outcome:
    """Return what ``lease`` holds, whose guest runs without its device; nothing if it has ended meanwhile.

    ConflictError if the device is open or one of its queues in use.
    """
    deadline = time.monotonic() + read_times(system.files).release_wait
    pace, evidence = Pace(), Evidence(system)
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        mine = found.leases.get(lease.mdev)
        if mine is None or not _is_same(lease, mine):
            return Outcome([], found)
        evidence.wait_until_idle([mine], deadline, tell)
        host = read_host(system.sysfs)
        ledger = settled(system, found, host, evidence).with_lease(mine._replace(state=ENDING, was=None))
        first = settle(system, host, found, ledger, pace=pace, tell=tell)
    return finished(system, first, pace, tell=tell)


def release(system: System, guest_uuid: str, *, force: bool = False, tell: Progress = no_progress) -> Outcome:
    """Take home what the guest ``guest_uuid`` holds, and pay what can be paid.

    Nothing is taken from a guest that still has its device, unless ``force``: ConflictError. Releasing what
    is not held is no error: there may be debts to pay. ``tell`` hears what is waited for.
    """
    deadline_after = read_times(system.files).release_wait
    pace, evidence = Pace(), Evidence(system)
    tell(FOR_THE_LOCK)
    with system.lock():
        tell("")
        found = ledger_file.load(system.files, system.boot_id)
        if not force:
            evidence.wait_until_idle(found.of_guest(guest_uuid), time.monotonic() + deadline_after, tell)
        host = read_host(system.sysfs)
        ledger = settled(system, found, host, evidence).ending(guest_uuid)
        first = settle(system, host, found, ledger, pace=pace, tell=tell)
    outcome = finished(system, first, pace, tell=tell)
    for lease in outcome.ledger.of_guest(guest_uuid):
        # Its removal was answered as if it had gone by itself.
        raise ApvfioError(
            f"its mediated device {lease.mdev} is still there.", guest=lease.guest, remedy="Try again."
        )
    return outcome


def stop(system: System, guest_uuid: str, *, recorded: bool = False) -> Outcome:
    """Return what a guest holds that has stopped; nothing shall be lost, whatever happens to this call.

    The stop is recorded first, unless the caller says that it was ``recorded``: a record that is gone by now
    was served by another call, and the guest may run again. ApvfioError as with `release`: the record is
    left then, and served by the next call of any kind. What the policy's release-budget does not allow for
    is left to the unit that watches for it, if one does.
    """
    recorded = recorded or stop_records.record(system, guest_uuid)
    try:
        found = ledger_file.load(system.files, system.boot_id)
        if not found.of_guest(guest_uuid):
            stop_records.forget(system, guest_uuid)
            if not stop_records.recorded(system):
                # Its start was refused, perhaps for want of the lock: that is not waited for again.
                return Outcome([], found)
        return _serve_stop(system, guest_uuid, recorded=recorded)
    except ApvfioError:
        # libvirt reports a stop once, and what delays this one may be over soon.
        hand_over(system.files, guest_uuid)
        raise


def _serve_stop(system: System, guest_uuid: str, *, recorded: bool) -> Outcome:
    """Serve the stop of a guest, and all others. If its record is gone, another call has served it."""
    times = read_times(system.files)
    pace, haste, evidence = Pace(), Haste(system.files, guest_uuid, times.release_budget), Evidence(system)
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        ended = found.of_guest(guest_uuid)
        if recorded:
            stopped = stop_records.of_guest(system, guest_uuid)
            if not ended and not stop_records.recorded(system):
                return Outcome([], found)
            ended = [lease for lease in ended if any(stop.ends(lease) for stop in stopped)]
        evidence.wait_until_idle(ended, time.monotonic() + times.release_wait, no_progress)
        host = read_host(system.sysfs)
        ledger = settled(system, found, host, evidence)
        if not recorded:
            ledger = ledger.ending(guest_uuid)
        first = settle(system, host, found, ledger, pace=pace, haste=haste)
    return finished(system, first, pace, haste)


def reconcile(system: System, *, hurry: bool = False, tell: Progress = no_progress) -> Outcome:
    """Take whatever steps are due: what a crash left half done, and debts that can be paid now.

    In a ``hurry`` as `stop`, also if it fails: the unit that watches does the rest. Without a hurry also what
    others have handed over. ``tell`` hears what is waited for.
    """
    try:
        return _reconcile(system, hurry=hurry, tell=tell)
    except ApvfioError:
        if hurry:
            hand_over(system.files, "reconcile")
        raise


def _reconcile(system: System, *, hurry: bool, tell: Progress) -> Outcome:
    from apvfio.engine.intended_masks import intended_masks  # noqa: PLC0415  a start does without both
    from apvfio.plan.cleared_bits import cleared_by_others  # noqa: PLC0415

    pace, haste = Pace(), None
    if hurry:
        haste = Haste(system.files, "reconcile", read_times(system.files).release_budget)
    tell(FOR_THE_LOCK)
    with system.lock():
        tell("")
        if not hurry:
            take_up(system.files)
        host = read_host(system.sysfs)
        found = ledger_file.load(system.files, system.boot_id)
        seen = differences(system, host, found)
        ledger = settled(system, found, host)
        ledger = ledger._replace(strange=cleared_by_others(host, ledger, intended_masks(system)))
        record.catch_up(system, found)
        first = settle(system, host, found, ledger, pace=pace, haste=haste, tell=tell)
    return finished(system, first._replace(seen=tuple(seen)), pace, haste, tell)


def switch_mechanism(system: System, mode: str, *, tell: Progress = no_progress) -> MechanismChange:
    """Open the host for the mechanism ``mode``, and keep to it until the next boot.

    Masks an administrator narrowed are widened, overrides he set are cleared: he asked for it.
    ``tell`` hears what is waited for.
    """
    tell(FOR_THE_LOCK)
    with system.lock():
        tell("")
        serve_ended(system)
        host = read_host(system.sysfs)
        found = ledger_file.load(system.files, system.boot_id)
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
        steps = steps_to_mechanism(mode, host)
        if steps:
            tell(resetting([queue for queue, driver in host.drivers.items() if driver == VFIO_DRIVER]))
        apply_steps(system.sysfs, steps)
        after = read_host(system.sysfs)
        # What an administrator cleared is set again, if the masks were opened.
        freed = ledger.freed - MaskBits(after.apmask, after.aqmask)
        record.save(system, without_returned(ledger, after)._replace(mode=mode, freed=freed), found)
        masks = [f"{step.attribute} {step.value}" for step in steps if step.attribute in MASK_NAMES]
        if masks:
            record.note_masks(system, f"{'; '.join(masks)}, by 'apvfio mode {mode}'")
        return MechanismChange(host, after)


def expect_arrival(system: System, guest_uuid: str) -> bool:
    """Whether the lease of the guest ``guest_uuid`` awaits it from another host; from now on it does not.

    The guest arrives without its device, which is plugged in once it runs here.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        ledger, stopped = found, stop_records.of_guest(system, guest_uuid)
        for lease in found.of_guest(guest_uuid):
            if lease.expected and lease.state == HELD and not any(stop.ends(lease) for stop in stopped):
                # It has as long from now to come up as any other guest.
                arriving = lease._replace(expected=False, since=_since(system, guest_uuid))
                ledger = ledger.with_lease(arriving)
        if ledger != found:
            record.save(system, ledger, found)
        with suppress(ApvfioError):
            serve_ended(system)
    return ledger != found


def await_device(system: System, guest_uuid: str, *, awaits: bool) -> None:
    """Record that the guest's device is out for a migration, and its lease stays, or that this is over."""
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        ledger = found
        for lease in found.of_guest(guest_uuid):
            if lease.state == HELD:
                ledger = ledger.with_lease(lease._replace(expected=awaits))
        if ledger != found:
            record.save(system, ledger, found)


def _is_same(lease: Lease, found: Lease | None) -> bool:
    """Whether ``found`` is ``lease`` still: of the same life of its guest, and under the same live change."""
    return found is not None and (found.uuid, found.since, found.live) == (
        lease.uuid,
        lease.since,
        lease.live,
    )


def _claimed(system: System, request: Request, *, expected: bool) -> Lease:
    """The lease that was made for this call, now the guest's own."""
    found = ledger_file.load(system.files, system.boot_id)
    lease = found.leases.get(request.mdev)
    if lease is None or (lease.uuid, lease.state) != (request.guest_uuid, STARTING):
        raise ApvfioError(
            "its queues were taken back before it started.", guest=request.guest, remedy="Start it again."
        )
    lease = lease._replace(state=HELD, since=_since(system, request.guest_uuid), expected=expected)
    ledger = found.with_lease(lease).handed(lease)
    # Only now: a choice that failed to work shall not be made again.
    record.save(system, ledger.remembering(lease.uuid, lease.matrix) if request.wish else ledger, found)
    return lease


def _since(system: System, guest_uuid: str) -> int:
    """When a life of the guest begins that begins now: after each recorded stop, which must not end it."""
    return max((now(), *(stop.seconds + 1 for stop in stop_records.of_guest(system, guest_uuid))))

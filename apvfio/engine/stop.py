# SPDX-License-Identifier: Apache-2.0
"""The stop of a guest: its lease ends, its mediated device goes, its queues are returned to the host."""

from __future__ import annotations

import time

from apvfio.engine.carry_out import Outcome, carry_out, carry_out_rest
from apvfio.engine.deferred import Pace, TimeBudget, defer_returns
from apvfio.engine.signs_of_life import Evidence
from apvfio.engine.state import bring_up_to_date
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError
from apvfio.model.progress import FOR_THE_LOCK, no_progress
from apvfio.store import ledger_file, stop_records
from apvfio.store.policy_file import read_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.progress import Progress


def stop_guest(system: System, guest_uuid: str, *, recorded: bool = False) -> Outcome:
    """Return the queues of a guest that has stopped; whatever happens to this call, none is lost.

    The stop is recorded first, unless the caller has ``recorded`` it: if that record is gone, another call
    has served it, and the guest may run again. After an error, one of those of `release_guest`, the record
    stays, and the next call of any kind serves it. Returns that exceed the policy's release-budget are left
    to the systemd unit, if it watches.
    """
    recorded = recorded or stop_records.record(system, guest_uuid)
    try:
        found = ledger_file.load(system.files, system.boot_id)
        if not found.of_guest(guest_uuid):
            stop_records.forget(system, guest_uuid)
            if not stop_records.recorded(system):
                # Its start was refused, perhaps because the lock was held: do not wait for the lock again.
                return Outcome([], found)
        return _serve_stop(system, guest_uuid, recorded=recorded)
    except ApvfioError:
        # libvirt reports a stop once, and what delays this one may be over soon.
        defer_returns(system.files, guest_uuid)
        raise


def _serve_stop(system: System, guest_uuid: str, *, recorded: bool) -> Outcome:
    """Serve the stop of a guest, and all others. If its record is gone, another call has served it."""
    times = read_times(system.files)
    pace = Pace(budget=TimeBudget(system.files, guest_uuid, times.release_budget))
    evidence = Evidence(system)
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
        ledger = bring_up_to_date(system, found, host, evidence)
        if not recorded:
            ledger = ledger.with_ending(guest_uuid)
        first = carry_out(system, host, found, ledger, pace)
    return carry_out_rest(system, first, pace)


def release_guest(
    system: System, guest_uuid: str, *, force: bool = False, progress: Progress = no_progress
) -> Outcome:
    """Return the queues of guest ``guest_uuid``, and make all other possible returns.

    Nothing is taken from a guest that still has its device, unless ``force``: ConflictError. It is no error
    if the guest holds nothing: there may be pending returns. ``progress`` hears what the call waits for.
    """
    deadline_after = read_times(system.files).release_wait
    pace, evidence = Pace(progress=progress), Evidence(system)
    progress(FOR_THE_LOCK)
    with system.lock():
        progress("")
        found = ledger_file.load(system.files, system.boot_id)
        if not force:
            evidence.wait_until_idle(found.of_guest(guest_uuid), time.monotonic() + deadline_after, progress)
        host = read_host(system.sysfs)
        ledger = bring_up_to_date(system, found, host, evidence).with_ending(guest_uuid)
        first = carry_out(system, host, found, ledger, pace)
    outcome = carry_out_rest(system, first, pace)
    for lease in outcome.ledger.of_guest(guest_uuid):
        # The kernel answered the removal as if the device had disappeared by itself.
        raise ApvfioError(
            f"its mediated device {lease.mdev} still exists.", guest=lease.guest, remedy="Try again."
        )
    return outcome

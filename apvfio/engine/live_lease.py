# SPDX-License-Identifier: Apache-2.0
"""The lease of a running guest whose device is plugged in or out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.engine.carry_out import Outcome, carry_out, carry_out_rest
from apvfio.engine.deferred import Pace
from apvfio.engine.signs_of_life import Evidence
from apvfio.engine.state import bring_up_to_date
from apvfio.events import record
from apvfio.kernel.snapshot import read_host
from apvfio.model.ledger import ENDING, HELD
from apvfio.model.progress import no_progress
from apvfio.store import ledger_file
from apvfio.store.policy_file import read_times

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Lease, LiveChange


def note_live(system: System, lease: Lease, live: LiveChange | None) -> Lease | None:
    """Record that ``live`` changes the guest of ``lease``, or with None that no live change is under way.

    Returned is the lease as it is then, None if it has ended or changed meanwhile.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        if not _is_same(lease, found.leases.get(lease.mdev)) or found.leases[lease.mdev].state != HELD:
            return None
        noted = found.leases[lease.mdev]._replace(live_change=live)
        record.save(system, found.with_lease(noted), found)
        return noted


def release_unplugged(system: System, lease: Lease) -> Outcome:
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
        evidence.wait_until_idle([mine], deadline, no_progress)
        host = read_host(system.sysfs)
        ledger = bring_up_to_date(system, found, host, evidence).with_lease(
            mine._replace(state=ENDING, before=None)
        )
        first = carry_out(system, host, found, ledger, pace)
    return carry_out_rest(system, first, pace)


def _is_same(lease: Lease, found: Lease | None) -> bool:
    """Whether ``found`` is ``lease`` still: of the same life of its guest, and under the same live change."""
    return found is not None and (found.uuid, found.since, found.live_change) == (
        lease.uuid,
        lease.since,
        lease.live_change,
    )

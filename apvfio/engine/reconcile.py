# SPDX-License-Identifier: Apache-2.0
"""Reconcile: bring the host to what the ledger says, whatever a crash or another program has left."""

from __future__ import annotations

from apvfio.engine.carry_out import Outcome, carry_out, carry_out_rest
from apvfio.engine.deferred import DIRECTORY, Pace, TimeBudget, defer_returns, finish_deferred
from apvfio.engine.differences import differences, intended_masks
from apvfio.engine.state import read_ledger
from apvfio.events import record
from apvfio.model.errors import ApvfioError
from apvfio.model.progress import FOR_THE_LOCK, no_progress
from apvfio.plan.drift import cleared_by_others
from apvfio.store.policy_file import read_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.progress import Progress


def reconcile_host(system: System, *, hurry: bool = False, progress: Progress = no_progress) -> Outcome:
    """Bring the host to what the ledger says: finish what a crash interrupted, make pending returns.

    In a ``hurry``, as in a hook, steps that take too long or fail are left to the systemd unit. Otherwise
    deferred returns are made as well. ``progress`` hears what the call waits for.
    """
    try:
        return _reconcile(system, hurry=hurry, progress=progress)
    except ApvfioError:
        if hurry:
            defer_returns(system.files, "reconcile")
        raise


def _reconcile(system: System, *, hurry: bool, progress: Progress) -> Outcome:
    budget = TimeBudget(system.files, "reconcile", read_times(system.files).release_budget) if hurry else None
    pace = Pace(budget=budget, progress=progress)
    progress(FOR_THE_LOCK)
    with system.lock():
        progress("")
        names = [] if hurry else system.files.list(DIRECTORY)
        host, found, ledger = read_ledger(system)
        seen = differences(system, host, found)
        ledger = ledger._replace(cleared_by_others=cleared_by_others(host, ledger, intended_masks(system)))
        record.changes(system, [found])
        first = carry_out(system, host, found, ledger, pace)
    outcome = carry_out_rest(system, first._replace(seen=tuple(seen)), pace)
    finish_deferred(system.files, names)
    return outcome

# SPDX-License-Identifier: Apache-2.0
"""A drain: recorded before the first guest is moved, removed after the last one is moved back.

Each function makes one step under the lock. If a drain is killed between two steps or within one, the same
command continues it: the record says what is still to be done, and a step can be repeated without harm.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.engine.kernel_move import require_still
from apvfio.engine.live_change import plan_change
from apvfio.engine.state import State, read_ledger, read_state
from apvfio.kernel.apply import apply_steps
from apvfio.model.drain import Drain
from apvfio.model.errors import ApvfioError
from apvfio.plan.drain import clear_steps, idle_overrides, set_again_steps
from apvfio.store.drain_file import drained_area, load_drains, save_drains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apvfio.kernel.seam import System
    from apvfio.model.drain import MovedGuest
    from apvfio.model.matrix import Apqn, Area, Matrix
    from apvfio.model.process import Process
    from apvfio.model.request import Request
    from apvfio.plan.live_change import LivePlan


def preview_moves(
    system: System, area: Area, requests: Iterable[Request], changer: Process
) -> list[LivePlan | ApvfioError]:
    """Return what would move the guests of these ``requests`` off ``area``, or the errors.

    Nothing is changed; each plan takes the plans before it as carried out.
    """
    seen = read_state(system)
    seen = seen._replace(policy=seen.policy._replace(drained=seen.policy.drained.union(area)))
    found: list[LivePlan | ApvfioError] = []
    for request in requests:
        try:
            change = plan_change(system, request, changer, seen=seen)
        except ApvfioError as error:
            found.append(error)
        else:
            found.append(change)
            seen = _after(change, seen)
    return found


def plan_back(system: System, area: Area, request: Request, wanted: Matrix, changer: Process) -> LivePlan:
    """Plan how a running guest gets ``wanted`` when ``area`` is no longer drained; nothing is changed."""
    seen = read_state(system)
    others = [drain for drain in load_drains(system.files) if drain.area != area]
    seen = seen._replace(policy=seen.policy._replace(drained=drained_area(others)))
    return plan_change(system, request, changer, wanted=wanted, seen=seen)


def idle_overrides_of(system: System, area: Area) -> dict[Apqn, str]:
    """Return the overrides that `clear_overrides` would clear now."""
    host, _, ledger = read_ledger(system)
    return idle_overrides(area, host, ledger)


def begin_drain(system: System, area: Area) -> None:
    """Record the drain of ``area``: from now on no guest gets its queues."""
    with system.lock():
        drains = load_drains(system.files)
        if all(drain.area != area for drain in drains):
            drains.append(Drain(area, int(time.time())))
        save_drains(system.files, _changed(drains, area, lambda drain: drain._replace(restoring=False)))


def note_moved(system: System, area: Area, guest: MovedGuest) -> None:
    """Record that ``guest`` is about to be moved off ``area``."""
    _change(system, area, lambda drain: drain.with_moved(guest))


def note_stopped(system: System, area: Area, names: Iterable[str]) -> None:
    """Record the guests that must be stopped for the drain of ``area``."""
    names = list(names)
    if names:
        _change(system, area, lambda drain: drain.with_stopped(names))


def clear_overrides(system: System, area: Area) -> dict[Apqn, str]:
    """Clear the overrides of ``area`` that nobody needs and others have set; return them all."""
    with system.lock():
        host, _, ledger = read_ledger(system)
        drains = load_drains(system.files)
        cleared = {}
        for i, drain in enumerate(drains):
            if drain.area == area:
                cleared = {**idle_overrides(area, host, ledger), **drain.overrides}
                drains[i] = drain._replace(overrides=cleared)
        if cleared:
            require_still(ledger)
        save_drains(system.files, drains)
        apply_steps(system.sysfs, clear_steps(cleared, host, ledger))
    return cleared


def begin_restore(system: System, area: Area) -> None:
    """Record that the drain of ``area`` ends: guests may have its queues."""
    _change(system, area, lambda drain: drain._replace(restoring=True))


def end_drain(system: System, area: Area) -> None:
    """Set again the overrides that the drain of ``area`` has cleared, and forget it."""
    with system.lock():
        drains = load_drains(system.files)
        host, _, ledger = read_ledger(system)
        for drain in drains:
            if drain.area == area:
                if drain.overrides:
                    require_still(ledger)
                apply_steps(system.sysfs, set_again_steps(drain.overrides, host, ledger))
        save_drains(system.files, [drain for drain in drains if drain.area != area])


def _change(system: System, area: Area, change: Callable[[Drain], Drain]) -> None:
    with system.lock():
        save_drains(system.files, _changed(load_drains(system.files), area, change))


def _changed(drains: Iterable[Drain], area: Area, change: Callable[[Drain], Drain]) -> list[Drain]:
    return [change(drain) if drain.area == area else drain for drain in drains]


def _after(change: LivePlan, seen: State) -> State:
    """Return the state when ``change`` is for good."""
    plan = change.plan
    ledger = plan.ledger.with_lease(plan.lease.committed())
    return State(plan.expected(seen.host), ledger, seen.policy)

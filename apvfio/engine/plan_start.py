# SPDX-License-Identifier: Apache-2.0
"""From a guest's request and the state of the host to the plan of its start; nothing is changed."""

from __future__ import annotations

from apvfio.engine.deferred import is_watched
from apvfio.engine.select_queues import planned
from apvfio.kernel.snapshot import in_use, is_set_offline
from apvfio.kernel.usage import read_usage
from apvfio.plan.availability import HeldByDeviceError
from apvfio.plan.start_plan import make_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from apvfio.engine.state import State
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan

    Planned = TypeVar("Planned")


def plan_start(system: System, request: Request, state: State) -> Plan:
    """Return what starting the guest does on the host in ``state``; an error names the guest."""

    def make(named: Request, ledger: Ledger) -> Plan:
        usage = read_usage(system, state.host, [named.matrix], state.policy)
        # Only where something is pending is it worth to ask.
        defer = bool(ledger.pending or ledger.overrides) and is_watched(system.files)
        return make_plan(named, state.host, ledger, state.policy, usage, defer=defer)

    return plan_with(system, request, state, make)


def plan_with(
    system: System, request: Request, state: State, make: Callable[[Request, Ledger], Planned]
) -> Planned:
    """Return what ``make`` plans; an error about a device in the way says whether anybody uses it."""
    try:
        return planned(system.sysfs, request, state.host, state.ledger, state.policy, make=make)
    except HeldByDeviceError as error:
        held = state.host.mdevs[error.mdev].queues()
        busy = any(in_use(system.sysfs, queue) for queue in held if queue in state.host.drivers)
        raise error.used_by(system.opener(error.mdev), busy=busy) from None


def with_offline_queues(plan: Plan, host: Host, sysfs: Sysfs) -> Ledger:
    """Return the plan's ledger with queues that the administrator has set offline and gets back offline."""
    offline = {queue for queue in plan.taken(host) if is_set_offline(sysfs, queue)}
    return plan.ledger._replace(offline_queues=plan.ledger.offline_queues | offline)

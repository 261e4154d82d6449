# SPDX-License-Identifier: Apache-2.0
"""The start of a guest: state, request, plan, save, apply, verify, save."""

from __future__ import annotations

from apvfio.engine.carry_out import carry_out, finish_ended, without_what_is_over
from apvfio.engine.deferred import Pace, TimeBudget, defer_returns
from apvfio.engine.plan_start import plan_start, with_offline_queues
from apvfio.engine.signs_of_life import Evidence
from apvfio.engine.state import read_state
from apvfio.engine.verify import readable, verify_device
from apvfio.events import record
from apvfio.kernel.apply import apply_steps, bind_queues
from apvfio.kernel.errnos import is_made_already
from apvfio.kernel.snapshot import read_host, read_matrix
from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import CHANGING, ENDING, HELD
from apvfio.store import ledger_file, stop_records
from apvfio.store.policy_file import read_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.engine.state import State
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger, LiveChange
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan


def start_guest(
    system: System,
    request: Request,
    *,
    abandoned: Callable[[], bool] = bool,
    expected: bool = False,
    live: LiveChange | None = None,
) -> Lease:
    """Give a starting guest its queues; return its lease.

    A request that cannot be met leaves the host untouched; if a step fails, the steps before it are undone.
    ``abandoned`` is called once the lock is held: if the caller has ended meanwhile, ApvfioError.
    ``expected``: a migration will bring the guest. ``live``: the guest runs, and its device is plugged in.
    """
    with system.lock():
        if abandoned():
            raise ApvfioError("the program that requested its start has ended.", guest=request.guest)
        found = ledger_file.load(system.files, system.boot_id)
        held = found.leases.get(request.mdev)
        if held and held.kernel_move and not (expected or live):
            from apvfio.engine.kernel_move import arrive  # noqa: PLC0415

            if lease := arrive(system, found, request):
                return lease
        try:
            state = read_state(system, found)
            plan = _plan(system, request, state)
        except ApvfioError:
            # What has ended does not wait for another call.
            with suppress(ApvfioError):
                finish_ended(system)
            raise
        if live:
            plan = plan._replace(ledger=plan.ledger.with_lease(plan.lease._replace(live_change=live)))
        ledger_file.save(system.files, plan.ledger)
        if plan.deferred:
            defer_returns(system.files, request.guest_uuid)
        try:
            apply_steps(system.sysfs, plan.steps)
            there = [queue for queue in plan.request.matrix.queues() if queue in state.host.drivers]
            bind_queues(system.sysfs, there)
            verify_device(system.sysfs, plan.lease, there)
        except (ApvfioError, OSError) as error:
            from apvfio.engine.lost_overrides import explained  # noqa: PLC0415  few starts fail

            why = explained(system.sysfs, plan, error)
            record.changes(system, [found, plan.ledger], plan)
            _undo(system, plan, state, error)
            raise readable(why).for_guest(request.guest) from None
        ledger = _held(system, plan, expected=expected)
        ledger_file.save(system.files, ledger)
        record.changes(system, [found, plan.ledger, ledger], plan)
        return ledger.leases[request.mdev]


def _plan(system: System, request: Request, state: State) -> Plan:
    """Return the plan; its ledger records which of the queues to be taken are offline."""
    _require_stopped(system, request, state.ledger)
    plan = plan_start(system, request, state)
    # Only now is it known which queues a request by criteria has chosen.
    _require_stopped(system, plan.request, state.ledger)
    return plan._replace(ledger=with_offline_queues(plan, state.host, system))


def _require_stopped(system: System, request: Request, ledger: Ledger) -> None:
    """ConflictError if the guest runs already, perhaps by another daemon, with other queues.

    The same start once more does no harm: libvirt may have lost its record of a start.
    """
    for lease in ledger.of_guest(request.guest_uuid):
        same = lease.mdev == request.mdev and (request.matrix.empty or request.matrix == lease.matrix)
        if not same or lease.state == CHANGING:
            Evidence(system).require_idle(lease)


def _held(system: System, plan: Plan, *, expected: bool) -> Ledger:
    """Return the ledger in which the guest holds its queues, and without leases that are over."""
    ledger = plan.ledger
    if any(other.state == ENDING for other in ledger.leases.values()):
        ledger = without_what_is_over(ledger, read_host(system.sysfs), plan.steps)
    # Before the new lease begins: only records that cannot be removed are left.
    since = stop_records.beginning(plan.lease.uuid, stop_records.forget_served(system, ledger))
    lease = plan.lease._replace(state=HELD, since=since, expected=expected)
    ledger = ledger.with_lease(lease).with_holder(lease)
    # Only now, so that a choice that did not work is not made again.
    return ledger.with_last_given(lease.uuid, lease.matrix) if plan.request.criteria else ledger


def _undo(system: System, plan: Plan, state: State, error: ApvfioError | OSError) -> None:
    """Return what the plan has taken; steps that fail are left to the next call, by the ledger."""
    lease = plan.lease
    ledger = plan.ledger
    if _is_anothers(system, lease, state.host, error):
        # The device must not be removed together with the lease.
        ledger = ledger.with_lease(lease._replace(created=False))
    # This may be the second start of a guest that runs and has the device: it keeps its lease.
    if lease.created and lease.mdev in state.host.mdevs and Evidence(system).holder(lease):
        earlier = state.ledger.leases.get(lease.mdev)
        kept = earlier if earlier and earlier.state == HELD else lease._replace(state=HELD)
        after = ledger.with_lease(kept)
    else:
        after = ledger.with_ending(lease.uuid)
    budget = TimeBudget(system.files, lease.uuid, read_times(system.files).release_budget)
    pace = Pace(at_once=True, budget=budget)
    # The first error is the one to report.
    with suppress(ApvfioError):
        carry_out(system, read_host(system.sysfs), plan.ledger, after, pace)


def _is_anothers(system: System, lease: Lease, host: Host, error: Exception) -> bool:
    """Return whether another program created the device after ``host`` was read."""
    if not is_made_already(error):
        return False
    try:
        return read_matrix(system.sysfs, lease.mdev) != host.mdevs.get(lease.mdev)
    except OSError:
        return True

# SPDX-License-Identifier: Apache-2.0
"""Give a running guest other queues: plug adapters and domains, or the whole device, in and out.

A change of the device has two steps, between which the guest's annotation can be changed. `apply_change`
gives the device its new matrix and keeps the queues that the guest gives up; `commit` releases them,
`roll_back` undoes the change. If the process dies before `commit`, the next call undoes the change, as
`apvfio.engine.lease_end` finds it in the ledger.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.engine.carry_out import Outcome, carry_out, carry_out_rest
from apvfio.engine.deferred import Pace
from apvfio.engine.kernel_move import require_still
from apvfio.engine.lost_overrides import explained
from apvfio.engine.plan_start import plan_with, require_criteria_met, with_offline_queues
from apvfio.engine.signs_of_life import Evidence
from apvfio.engine.state import bring_up_to_date, read_ledger, read_state
from apvfio.engine.verify import readable, verify_device
from apvfio.events import record
from apvfio.kernel.apply import apply_steps, bind_queues
from apvfio.kernel.snapshot import is_configured, read_host
from apvfio.kernel.usage import read_usage
from apvfio.model.errors import ApvfioError, HostError
from apvfio.model.ledger import ENDING, HELD, Lease, LiveChange
from apvfio.model.progress import no_progress
from apvfio.plan.live_change import LivePlan, held_lease, make_change
from apvfio.plan.partial_return import limit_returns
from apvfio.plan.secure_execution import lost_binding, to_bind
from apvfio.plan.steps import pending_steps, reassignment_steps
from apvfio.store import ledger_file
from apvfio.store.policy_file import read_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.engine.state import State
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.ids import IdSet
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Matrix
    from apvfio.model.process import Process
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText

_TURNS = 3
"""The device gets its former matrix, and the other queues are returned; the steps that are left."""


def plan_change(
    system: System,
    request: Request,
    changer: Process,
    *,
    wanted: Matrix | None = None,
    seen: State | None = None,
) -> LivePlan:
    """What `apply_change` would do now, or in the state ``seen``; changes nothing."""
    return _plan(system, request, seen or read_state(system), changer, wanted)


def apply_change(
    system: System,
    request: Request,
    changer: Process,
    annotation: str | None = None,
    *,
    wanted: Matrix | None = None,
) -> LivePlan:
    """Give the running guest's device the queues of ``request``; after any error, all is undone.

    The errors are those of a start; ConflictError if the guest has no lease that can be changed. Only
    `commit` makes the change final; ``changer`` is the process that will call it. ``annotation`` is the
    guest's annotation in case of a rollback, None if it does not change. With ``wanted``, of all queues that
    satisfy the request's criteria the guest gets these; HostError if they do not satisfy them.
    """
    with system.lock():
        saved = ledger_file.load(system.files, system.boot_id)
        seen = read_state(system, saved)
        require_still(seen.ledger)
        found = _plan(system, request, seen, changer, wanted)
        if found.idle:
            return found
        live = None if annotation is None else LiveChange(changer, annotation)
        lease = found.plan.lease._replace(live_change=live)
        ledger = with_offline_queues(found.plan, seen.host, system).with_lease(lease)
        record.save(system, ledger, saved)
        try:
            # Pending returns can wait; a guest that runs does not wait for them.
            apply_steps(system.sysfs, pending_steps(limit_returns(ledger, seen.host, 0), seen.host))
            there = [queue for queue in lease.matrix.queues() if queue in seen.host.drivers]
            bind_queues(system.sysfs, there)
            apply_steps(system.sysfs, reassignment_steps(lease, seen.host))
            verify_device(system.sysfs, lease, there)
        except (ApvfioError, OSError) as error:
            why = explained(system.sysfs, found.plan, error)
            _give_up(system, ledger, lease._replace(live_change=None))
            raise readable(why).for_guest(request.guest) from None
        return found


def commit(system: System, done: LivePlan) -> Outcome:
    """Make the change final: return the queues that the guest gave up, unless another device needs them.

    If the guest has ended meanwhile, its change has ended with it, which is no error.
    """
    return _end(system, done, lambda lease: lease.committed()._replace(live_change=None))


def roll_back(system: System, done: LivePlan) -> Outcome:
    """Undo the change: the guest gets its former queues back, and those that it got are returned."""
    return _end(system, done, Lease.rolled_back)


def note_live(system: System, lease: Lease, live: LiveChange | None) -> Lease | None:
    """Record that ``live`` changes the guest of ``lease``; None records that no live change is under way.

    Return the lease after that, None if it has ended or changed meanwhile.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        if not _is_same(lease, found.leases.get(lease.mdev)) or found.leases[lease.mdev].state != HELD:
            return None
        noted = found.leases[lease.mdev]._replace(live_change=live)
        record.save(system, found.with_lease(noted), found)
        return noted


def release_unplugged(system: System, lease: Lease) -> Outcome:
    """Return the queues of ``lease``, whose guest runs without its device; nothing if it has ended.

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


def _end(system: System, done: LivePlan, end: Callable[[Lease], Lease]) -> Outcome:
    pace = Pace()
    mine = done.plan.lease
    with system.lock():
        host, found, ledger = read_ledger(system)
        lease = ledger.leases.get(mine.mdev)
        if lease and (lease.uuid, lease.state, lease.before) == (mine.uuid, mine.state, mine.before):
            lease = end(lease)
            ledger = ledger.with_lease(lease)
            if lease.state == HELD:
                ledger = ledger.with_holder(lease)
                criteria = done.plan.request.criteria
                ledger = ledger.with_last_given(lease.uuid, lease.matrix) if criteria else ledger
        first = carry_out(system, host, found, ledger, pace)
    return carry_out_rest(system, first, pace)


def _plan(
    system: System, request: Request, seen: State, changer: Process, wanted: Matrix | None = None
) -> LivePlan:
    lease = held_lease(request, seen.ledger)

    def make(named: Request, warned: tuple[WarningText, ...]) -> LivePlan:
        if not seen.host.abilities.ap_config:
            _require_configured(system.sysfs, named.matrix.adapters | lease.matrix.adapters, named.guest)
        facts = read_usage(system, seen.host, [named.matrix], seen.policy)
        found = make_change(named, seen.host, ledger, seen.policy, changer=changer, facts=facts)
        if named.secure:
            warned = (*warned, *_about_binding(found))
        plan = found.plan._replace(warnings=(*found.plan.warnings, *warned))
        return found._replace(plan=plan)

    # Criteria that are met move nothing.
    ledger = seen.ledger.with_last_given(lease.uuid, lease.matrix) if request.criteria else seen.ledger
    if wanted is not None and request.criteria:
        require_criteria_met(system, request, wanted, seen)
        named = request._replace(matrix=wanted, criteria=None)
        found = plan_with(system, named, seen, make)
        # To be remembered as what its criteria were given.
        asked = found.plan.request._replace(criteria=request.criteria)
        return found._replace(plan=found.plan._replace(request=asked))
    return plan_with(system, request, seen._replace(ledger=ledger), make)


def _about_binding(found: LivePlan) -> Iterator[WarningText]:
    """What to warn of, in sentences, when a running Secure Execution guest is changed."""
    if found.given_up:
        yield lost_binding(found.given_up)
    if found.gained:
        yield to_bind(found.gained)


def _require_configured(sysfs: Sysfs, adapters: IdSet, guest: str) -> None:
    """HostError if an adapter is in standby: Linux before 6.12 would take it from the guest for good.

    Such a kernel never passes on a queue whose reset found it deconfigured (vops:vfio_ap_mdev_filter_matrix).
    """
    standby = [adapter for adapter in adapters if not is_configured(sysfs, adapter)]
    if standby:
        raise HostError(
            f"adapter {standby[0]} (0x{standby[0]:x}) is deconfigured, and this kernel would take it from "
            "the running guest.",
            guest=guest,
            remedy="Configure it first, with 'chzcrypt --config-on', or stop the guest.",
        )


def _give_up(system: System, ledger: Ledger, lease: Lease) -> None:
    pace = Pace(at_once=True)
    aim = ledger.with_lease(lease.rolled_back())
    with suppress(ApvfioError):  # the ledger says what is left to undo; the first error is the one to tell
        for _ in range(_TURNS):
            turn = carry_out(system, read_host(system.sysfs), ledger, aim, pace)
            if not turn.unfinished:
                break
            ledger = aim = turn.ledger


def _is_same(lease: Lease, found: Lease | None) -> bool:
    """Whether ``found`` is ``lease`` still: of the same life of its guest, and under the same live change."""
    return found is not None and (found.uuid, found.since, found.live_change) == (
        lease.uuid,
        lease.since,
        lease.live_change,
    )

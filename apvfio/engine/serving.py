# SPDX-License-Identifier: Apache-2.0
"""Serving the calls that wait, under the lock: planned one after the other, done all at once.

Whoever has the lock serves also those that wait for it, so that many guests started together
cost one write for each mask. Each is planned as if those before it had been started already.
A served guest's lease stays `STARTING` until its own call claims it: whose call has died meanwhile
has no guest, and the lease comes to its end.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EEXIST

from apvfio.engine.calls import Acquire, answer_of, parse_call
from apvfio.engine.deferred import Haste, Pace, hand_over
from apvfio.engine.evidence import Evidence
from apvfio.engine.resolve import planned
from apvfio.engine.settle import over, serve_ended, settle, settled
from apvfio.events import record
from apvfio.kernel.apply import apply_steps, bind_queues
from apvfio.kernel.snapshot import (
    in_use,
    is_set_offline,
    read_driver,
    read_guest_queues,
    read_host,
    read_matrix,
)
from apvfio.kernel.usage import read_usage
from apvfio.model.errors import ApvfioError, ConflictError, KernelRefusedError
from apvfio.model.ledger import CHANGING, ENDING, HELD
from apvfio.model.step import ASSIGN, CREATE
from apvfio.model.typed import NamedTuple
from apvfio.plan.availability import HeldByDeviceError
from apvfio.plan.partial_return import limit_returns, returning_queues
from apvfio.plan.planner import Plan, make_plan
from apvfio.plan.steps import creation_steps, pending_steps
from apvfio.store import ledger_file, stop_records
from apvfio.store.policy_file import read_policy, read_times
from apvfio.store.waiting import MemoryTicket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger, LiveChange
    from apvfio.model.matrix import Apqn
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.model.step import Step
    from apvfio.store.waiting import Ticket

    Call = Acquire | None
    Planned = TypeVar("Planned")

_OWN = (CREATE, ASSIGN)
"""The steps that are one guest's alone; all others serve whoever needs them."""


class Scene(NamedTuple):
    """What planning needs: the host, the ledger and the policy as they are now."""

    host: Host
    ledger: Ledger
    policy: Policy


class _Start(NamedTuple):
    ticket: Ticket
    plan: Plan


def current(system: System) -> Scene:
    """The scene as anybody may look at it."""
    host = read_host(system.sysfs)
    ledger = ledger_file.load(system.files, system.boot_id)
    return Scene(host, ledger, read_policy(system.files))


def scene(system: System) -> Scene:
    """The scene under the lock: the ledger made true."""
    found = current(system)
    return found._replace(ledger=settled(system, found.ledger, found.host))


def plan_one(system: System, request: Request, seen: Scene) -> Plan:
    """What starting the guest would do; an error names it."""

    def make(named: Request, ledger: Ledger) -> Plan:
        facts = read_usage(system, seen.host, [named.matrix], seen.policy)
        return make_plan(named, seen.host, ledger, seen.policy, facts)

    return planned_on(system, request, seen, seen.ledger, make)


def planned_on(
    system: System, request: Request, seen: Scene, ledger: Ledger, make: Callable[[Request, Ledger], Planned]
) -> Planned:
    """What ``make`` plans; an error about a device in the way says whether anybody uses it."""
    try:
        return planned(system.sysfs, request, seen.host, ledger, seen.policy, make=make)
    except HeldByDeviceError as error:
        held = seen.host.mdevs[error.mdev].queues()
        busy = any(in_use(system.sysfs, queue) for queue in held if queue in seen.host.drivers)
        raise error.used_by(system.opener(error.mdev), busy=busy) from None


def serve(system: System, mine: Ticket, request: Request) -> None:
    """Serve ``request``, the call of ``mine``, and all that wait with it; raises its own error only."""
    calls = [
        (ticket, Acquire(request) if ticket.name == mine.name else parse_call(ticket.call))
        for ticket in system.room.tickets()
        if ticket.answer is None
    ]
    try:
        refusals = _serve(system, calls)
    except ApvfioError as error:
        if len(calls) == 1:
            raise error.for_guest(request.guest) from None
        # What failed for all may be the fault of one: each is served alone then.
        refusals = _serve(system, [(mine, Acquire(request))])
    if mine.name in refusals:
        raise refusals[mine.name]


def serve_live(system: System, request: Request, live: LiveChange) -> None:
    """Serve a running guest alone, whose lease tells of the live change from its beginning; ApvfioError."""
    seen = scene(system)
    found = plan_one(system, request, seen)
    lease = found.lease._replace(live=live)
    ledger = noting_offline(found, seen.host, system.sysfs).with_lease(lease)
    found = found._replace(ledger=ledger)
    record.save(system, ledger)
    record.note_plan(system, found)
    mine = MemoryTicket({})
    failed = _start_all(system, [_Start(mine, found)], ledger, seen.host)
    if mine.name in failed:
        raise failed[mine.name]


def _serve(system: System, calls: list[tuple[Ticket, Call]]) -> dict[str, ApvfioError]:
    """Serve ``calls`` and answer them; the refusals by the names of the tickets.

    ApvfioError if what is done for all of them together failed: nobody has an answer then.
    """
    seen = scene(system)
    starts, refusals = _plan_all(system, calls, seen)
    if starts:
        ledger = starts[-1].plan.ledger
        record.save(system, ledger)
        for start in starts:
            record.note_plan(system, start.plan)
        refusals |= _start_all(system, starts, ledger, seen.host)
        stop_records.forget_served(system, _without_the_ended(system))
    else:
        # All were refused; what has ended does not wait for another call.
        with suppress(ApvfioError):
            serve_ended(system)
    for start in starts:
        start.ticket.reply(answer_of(refusals.get(start.ticket.name)))
    return refusals


def _plan_all(
    system: System, calls: list[tuple[Ticket, Call]], seen: Scene
) -> tuple[list[_Start], dict[str, ApvfioError]]:
    """The starts that are possible one after the other, and why the others are not."""
    starts, refusals = [], {}
    latest = {call.request.guest_uuid: ticket for ticket, call in calls if call}
    for ticket, call in calls:
        if call is None:
            continue
        try:
            if latest[call.request.guest_uuid] is not ticket:  # the daemon that wanted this start has died
                raise ConflictError("it is started anew meanwhile.", guest=call.request.guest)
            _require_stopped(system, call.request, seen.ledger)
            plan = plan_one(system, call.request, seen)
            # What a request by property has chosen is known only now.
            _require_stopped(system, plan.request, seen.ledger)
        except ApvfioError as error:
            refusals[ticket.name] = error
            ticket.reply(answer_of(error))
            continue
        plan = plan._replace(ledger=noting_offline(plan, seen.host, system.sysfs))
        starts.append(_Start(ticket, plan))
        seen = seen._replace(host=plan.expected(seen.host), ledger=plan.ledger)
    return starts, refusals


def _require_stopped(system: System, request: Request, ledger: Ledger) -> None:
    """ConflictError if the guest runs already, by another daemon perhaps, and has or gets something else.

    The same once more is no harm: libvirt may have lost what it knew of a start.
    """
    for lease in ledger.of_guest(request.guest_uuid):
        same = lease.mdev == request.mdev and (request.matrix.empty or request.matrix == lease.matrix)
        if not same or lease.state == CHANGING:
            Evidence(system).require_idle(lease)


def _start_all(system: System, starts: list[_Start], ledger: Ledger, host: Host) -> dict[str, ApvfioError]:
    """Take the steps: those for all at once, then each guest's own; what failed, by the ticket's name."""
    try:
        apply_steps(
            system.sysfs, [step for step in _for_now(system, ledger, host, starts) if step.op not in _OWN]
        )
    except ApvfioError:
        _give_up(system, ledger, [start.plan.lease for start in starts], host)
        raise
    failed = {}
    for start in starts:
        lease = start.plan.lease
        try:
            apply_steps(system.sysfs, creation_steps(lease, host))
            there = [queue for queue in lease.matrix.queues() if queue in host.drivers]
            bind_queues(system.sysfs, there)
            verify_guest(system.sysfs, lease, there)
        except (ApvfioError, OSError) as error:
            failed[start.ticket.name] = told(error).for_guest(lease.guest)
            if _is_anothers(system, lease, host, error):
                # It must not go with the lease.
                ledger = ledger.with_lease(lease._replace(made=False))
    lost = [start.plan.lease for start in starts if start.ticket.name in failed]
    if lost:
        _give_up(system, ledger, lost, host)
    return failed


def _without_the_ended(system: System) -> Ledger:
    """The ledger, from which the leases are struck that are over."""
    found = ledger_file.load(system.files, system.boot_id)
    if all(lease.state != ENDING for lease in found.leases.values()):
        return found
    ledger = over(found, read_host(system.sysfs), [])
    record.save(system, ledger, found)
    return ledger


def _for_now(system: System, ledger: Ledger, host: Host, starts: list[_Start]) -> list[Step]:
    """The steps due; old debts, which may take any time, are left to the unit if it watches."""
    slow = starts and returning_queues(ledger, host)
    if slow and hand_over(system.files, starts[0].plan.request.guest_uuid):
        ledger = limit_returns(ledger, host, 0)
    return pending_steps(ledger, host)


def noting_offline(plan: Plan, host: Host, sysfs: Sysfs) -> Ledger:
    """The plan's ledger, with those of the queues to be taken that are offline now."""
    offline = {queue for queue in plan.taken(host) if is_set_offline(sysfs, queue)}
    return plan.ledger._replace(offline=plan.ledger.offline | offline)


def _give_up(system: System, ledger: Ledger, leases: list[Lease], host: Host) -> None:
    after, evidence = ledger, Evidence(system)
    for lease in leases:
        # What failed may be the second start of a guest that runs and has the device.
        running = evidence.holder(lease) if lease.made and lease.mdev in host.mdevs else None
        after = after.with_lease(lease._replace(state=HELD)) if running else after.ending(lease.uuid)
    haste = Haste(system.files, leases[0].uuid, read_times(system.files).release_budget)
    try:
        settle(system, read_host(system.sysfs), ledger, after, pace=Pace(at_once=True), haste=haste)
    except ApvfioError:
        # The ledger says what is left to undo and the next call will; the first error is the one to tell.
        return


def told(error: ApvfioError | OSError) -> ApvfioError:
    if isinstance(error, ApvfioError):
        return error
    return ApvfioError(
        f"reading back what was done failed: {error}.",
        remedy="Perhaps an adapter went away meanwhile: see 'apvfio queues', then try again.",
    )


def _is_anothers(system: System, lease: Lease, host: Host, error: Exception) -> bool:
    """Whether the device could not be made because somebody else has made it since ``host`` was read."""
    if not isinstance(error, KernelRefusedError) or error.errno != EEXIST:
        return False
    try:
        return read_matrix(system.sysfs, lease.mdev) != host.mdevs.get(lease.mdev)
    except OSError:
        return True


def verify_guest(sysfs: Sysfs, lease: Lease, there: list[Apqn]) -> None:
    """See that the guest will get all that is ``there``: an assign that succeeds does not say so."""
    held = read_matrix(sysfs, lease.mdev)
    if held != lease.matrix:
        raise ApvfioError(
            f"the mediated device {lease.mdev} holds {held} where {lease.matrix} was assigned.",
            remedy="Another program is changing it; see that it ends, then try again.",
        )
    seen = read_guest_queues(sysfs, lease.mdev, lease.matrix)
    missing = [queue for queue in there if seen is not None and queue not in seen]
    if missing:
        drivers = {read_driver(sysfs, queue) or "no driver" for queue in missing}
        raise ApvfioError(
            f"{', '.join(map(str, missing[:8]))} would not reach the guest (bound to {', '.join(drivers)}).",
            queues=missing,
            remedy="See 'apvfio queues' for their state.",
        )

# SPDX-License-Identifier: Apache-2.0
"""From a guest's request and the state of the host to the plan of its start; nothing is changed."""

from __future__ import annotations

from apvfio.engine.deferred import is_watched
from apvfio.kernel.snapshot import in_use, is_set_offline
from apvfio.kernel.usage import read_usage
from apvfio.model.errors import ApvfioError, HostError, PolicyError
from apvfio.model.matrix import Apqn
from apvfio.plan.availability import HeldByDeviceError
from apvfio.plan.start_plan import make_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from apvfio.engine.state import State
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan

    Planned = TypeVar("Planned")

TRIES = 32


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
        return planned(system.sysfs, request, state, make)
    except HeldByDeviceError as error:
        held = state.host.mdevs[error.mdev].queues()
        busy = any(in_use(system.sysfs, queue) for queue in held if queue in state.host.drivers)
        raise error.used_by(system.opener(error.mdev), busy=busy) from None


def with_offline_queues(plan: Plan, host: Host, sysfs: Sysfs) -> Ledger:
    """Return the plan's ledger with queues that the administrator has set offline and gets back offline."""
    offline = {queue for queue in plan.taken(host) if is_set_offline(sysfs, queue)}
    return plan.ledger._replace(offline_queues=plan.ledger.offline_queues | offline)


def planned(
    sysfs: Sysfs, request: Request, state: State, make: Callable[[Request, Ledger], Planned]
) -> Planned:
    """Return what ``make`` plans for ``request``, for whose criteria queues are chosen first.

    Some rules of the policy are about what the host is left with, and only a plan can tell.
    Queues that turn out to be needed by the host are left out, and the choice is made again.
    """
    host, ledger, policy = state
    criteria = request.criteria
    if request.secure:
        _require_usable(sysfs, request)
    if criteria is None:
        return make(request, ledger)
    # Most guests name their queues.
    from apvfio.kernel.cards import read_card_facts  # noqa: PLC0415
    from apvfio.plan.selection import choose_queues  # noqa: PLC0415

    known = read_card_facts(sysfs, criteria, host, ledger)
    ledger = ledger._replace(last_seen_mkvps=known.mkvps)
    kept: frozenset[Apqn] = frozenset()
    avoid: frozenset[Apqn] = frozenset()
    refusal: PolicyError | None = None
    for _ in range(TRIES):
        try:
            matrix = choose_queues(request, host, ledger, policy, known=known, kept=kept, avoid=avoid)
        except (HostError, PolicyError) as error:
            raise (refusal or error).for_guest(request.guest) from None
        try:
            return make(request._replace(matrix=matrix), ledger)
        except PolicyError as error:
            refusal = refusal or error
            refused = frozenset(map(Apqn._make, error.queues))
            asked = avoid.union(filter(matrix.holds, refused))
            if asked == avoid:
                # None of its own: the collateral queues are the problem.
                if kept >= refused:
                    break
                kept |= refused
            avoid = asked
    assert refusal
    raise refusal


def _require_usable(sysfs: Sysfs, request: Request) -> None:
    """RequestError if a Secure Execution guest requests what it cannot use."""
    from apvfio.kernel.cards import read_adapters  # noqa: PLC0415  few guests are
    from apvfio.plan.secure_execution import require_usable  # noqa: PLC0415

    require_usable(request, read_adapters(sysfs))


def all_named(
    sysfs: Sysfs, requests: Iterable[Request], host: Host, ledger: Ledger, policy: Policy
) -> tuple[list[Request], list[ApvfioError]]:
    """Return the requests with queues for their criteria, were all these guests to run, and why some cannot.

    A guest that runs keeps what it has; the others get, one after the other, what is left.
    """
    from apvfio.kernel.cards import read_card_facts  # noqa: PLC0415
    from apvfio.plan.selection import choose_queues  # noqa: PLC0415

    named: list[Request] = []
    errors: list[ApvfioError] = []
    unnamed: list[Request] = []
    for request in requests:
        try:
            if request.secure:
                _require_usable(sysfs, request)
            (unnamed if request.criteria else named).append(request)
        except ApvfioError as error:
            errors.append(error)
    for request in unnamed:
        assert request.criteria
        running = [lease.matrix for lease in ledger.active_leases() if lease.uuid == request.guest_uuid]
        others = {other.mdev: other.matrix for other in named if other.mdev != request.mdev}
        spoken_for = host._replace(mdevs={**host.mdevs, **others})
        try:
            known = read_card_facts(sysfs, request.criteria, host, ledger)
            chosen = running or [choose_queues(request, spoken_for, ledger, policy, known=known)]
        except ApvfioError as error:
            errors.append(error)
        else:
            named.append(request._replace(matrix=chosen[0]))
    return named, errors

# SPDX-License-Identifier: Apache-2.0
"""Make the plan of a start from a guest's request and the state of the host; nothing is changed."""

from __future__ import annotations

import time

from apvfio.engine.deferred import is_watched
from apvfio.kernel.snapshot import in_use, is_set_offline, shown_mkvps
from apvfio.kernel.usage import read_usage
from apvfio.model.errors import ApvfioError, HostError, PolicyError
from apvfio.model.matrix import Apqn
from apvfio.plan.availability import HeldByDeviceError
from apvfio.plan.start_plan import make_plan
from apvfio.store.mkvps_note import FULL, MKVPS, add

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from apvfio.engine.state import State
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.cards import CardFacts
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Matrix
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText
    from apvfio.plan.start_plan import Plan

    Planned = TypeVar("Planned")

TRIES = 32
KEYS_PATIENCE = 2.0
"""Seconds after which no more master keys are read before a take: chosen without a card to measure."""


def plan_start(system: System, request: Request, state: State) -> Plan:
    """Return what starting the guest does on the host in ``state``; an error names the guest."""

    def make(named: Request, warned: tuple[WarningText, ...]) -> Plan:
        host, ledger, policy = state
        usage = read_usage(system, host, [named.matrix], policy)
        # Only where something is pending is it worth to ask.
        defer = bool(ledger.pending or ledger.overrides) and is_watched(system.files)
        found = make_plan(named, host, ledger, policy, usage, defer=defer)
        if ledger.moving():
            from apvfio.engine.kernel_move import without_moves  # noqa: PLC0415

            found = without_moves(found, host)
        return found._replace(warnings=(*found.warnings, *warned)) if warned else found

    return plan_with(system, request, state, make)


def plan_with(
    system: System,
    request: Request,
    state: State,
    make: Callable[[Request, tuple[WarningText, ...]], Planned],
) -> Planned:
    """Return what ``make`` plans; an error about a device in the way says whether a process uses it."""
    try:
        return planned(system, request, state, make)
    except HeldByDeviceError as error:
        held = state.host.mdevs[error.mdev].queues()
        busy = any(in_use(system.sysfs, queue) for queue in held if queue in state.host.drivers)
        raise error.used_by(system.opener(error.mdev), busy=busy) from None


def with_offline_queues(plan: Plan, host: Host, system: System) -> Ledger:
    """Return the plan's ledger with queues that the administrator has set offline and gets back offline.

    The master keys of all that is taken are remembered; under the lock.
    """
    taken = plan.taken(host)
    remember_keys(system, taken)
    offline = {queue for queue in taken if is_set_offline(system.sysfs, queue)}
    return plan.ledger._replace(offline_queues=plan.ledger.offline_queues | offline)


def remember_keys(system: System, queues: Iterable[Apqn]) -> None:
    """Remember the master keys of ``queues``, which will leave the host; under the lock.

    Cards that are slow to answer do not hold up a start: after `KEYS_PATIENCE` the rest is left out.
    """
    deadline = time.monotonic() + KEYS_PATIENCE
    shown = {}
    for queue in queues:
        shown[queue] = shown_mkvps(system.sysfs, queue)
        if time.monotonic() > deadline:
            break
    if add(system.files, shown) and system.files.size(MKVPS) > FULL:
        from apvfio.store.mkvps_file import tidy  # noqa: PLC0415

        tidy(system.files)


def planned(
    system: System,
    request: Request,
    state: State,
    make: Callable[[Request, tuple[WarningText, ...]], Planned],
    *,
    known: CardFacts | None = None,
) -> Planned:
    """Return what ``make`` plans for ``request``; for criteria, queues are chosen first.

    ``make`` also gets the warnings about the queues' master keys. With ``known``, cards and keys that were
    read before, no card is asked, and there are no such warnings.

    Some rules of the policy concern the queues that are left to the host, and only a plan shows these. If the
    host turns out to need a chosen queue, the queue is left out, and the choice is repeated.
    """
    host, ledger, policy = state
    criteria = request.criteria
    if request.secure:
        _require_usable(system.sysfs, request)
    if criteria is None:
        asks = request.secure and known is None
        return make(request, _warned_of_keys(system, host, request) if asks else ())
    # Most guests request ids.
    from apvfio.engine.master_keys import card_facts  # noqa: PLC0415
    from apvfio.plan.selection import choose_queues  # noqa: PLC0415

    watched = known is None and (request.secure or criteria.names_keys)
    known = known or card_facts(system, criteria, host)
    kept: frozenset[Apqn] = frozenset()
    avoid: frozenset[Apqn] = frozenset()
    refusal: PolicyError | None = None
    for _ in range(TRIES):
        try:
            matrix = choose_queues(request, host, ledger, policy, known=known, kept=kept, avoid=avoid)
        except (HostError, PolicyError) as error:
            raise (refusal or error).for_guest(request.guest) from None
        try:
            named = request._replace(matrix=matrix)
            return make(named, _warned_of_keys(system, host, named) if watched else ())
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


def _warned_of_keys(system: System, host: Host, request: Request) -> tuple[WarningText, ...]:
    """Return the warnings about master keys for a guest that depends on them."""
    from apvfio.engine.master_keys import known_keys  # noqa: PLC0415
    from apvfio.plan.key_warnings import dependence_warnings  # noqa: PLC0415

    return tuple(dependence_warnings(request, known_keys(system, host, request.matrix.queues())))


def _require_usable(sysfs: Sysfs, request: Request) -> None:
    """RequestError if a Secure Execution guest requests what it cannot use."""
    from apvfio.kernel.cards import read_adapters  # noqa: PLC0415  few guests are
    from apvfio.plan.secure_execution import require_usable  # noqa: PLC0415

    require_usable(request, read_adapters(sysfs))


def require_criteria_met(system: System, request: Request, matrix: Matrix, state: State) -> None:
    """HostError unless the queues of ``matrix`` satisfy the criteria of ``request`` and are free."""
    from apvfio.engine.master_keys import card_facts  # noqa: PLC0415
    from apvfio.plan.selection import require_met  # noqa: PLC0415

    assert request.criteria
    known = card_facts(system, request.criteria, state.host)
    require_met(request, matrix, *state, known=known)


def all_named(
    system: System, requests: Iterable[Request], host: Host, ledger: Ledger, policy: Policy
) -> tuple[list[Request], list[ApvfioError]]:
    """Choose queues for the criteria of all these guests as if all were to run; return requests and errors.

    A running guest keeps its queues; the others get, one after the other, queues that are left.
    """
    from apvfio.engine.master_keys import card_facts  # noqa: PLC0415
    from apvfio.plan.selection import choose_queues  # noqa: PLC0415

    named: list[Request] = []
    errors: list[ApvfioError] = []
    unnamed: list[Request] = []
    for request in requests:
        try:
            if request.secure:
                _require_usable(system.sysfs, request)
            (unnamed if request.criteria else named).append(request)
        except ApvfioError as error:
            errors.append(error)
    for request in unnamed:
        assert request.criteria
        running = [lease.matrix for lease in ledger.active_leases() if lease.uuid == request.guest_uuid]
        others = {other.mdev: other.matrix for other in named if other.mdev != request.mdev}
        spoken_for = host._replace(mdevs={**host.mdevs, **others})
        try:
            known = card_facts(system, request.criteria, host)
            chosen = running or [choose_queues(request, spoken_for, ledger, policy, known=known)]
        except ApvfioError as error:
            errors.append(error)
        else:
            named.append(request._replace(matrix=chosen[0]))
    return named, errors

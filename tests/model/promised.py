# SPDX-License-Identifier: Apache-2.0
"""What is promised of a call of apvfio's, looked at in the simulated kernel's memory; see `model.world`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import ENDING, HELD
from apvfio.sim.profile import PROFILES
from apvfio.store.policy_file import POLICY, parse_policy
from model.views import HOST, VFIO, State, difference, disagreements, promises, still_pending, view

if TYPE_CHECKING:
    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request
    from memory_host import Machine
    from model.views import View


class ViolationError(AssertionError):
    """A promise was broken."""


def require_harmless(machine: Machine, before: View, policy: str, *, but: set[str], admin: bool) -> None:
    """Nobody who had no part in a call has lost anything; the devices in ``but`` were to go."""
    state = machine.kernel.state
    for uuid, had in before.guests.items():
        now = state.mdevs.get(uuid)
        if uuid not in but:
            lost = set(had.queues()) - set(now.guest_matrix.queues() if now else [])
            require(f"the running guest {uuid} has lost {sorted(map(str, lost))}", not lost)
    reserves = parse_policy(policy or None).reserves
    # The policy counts when a guest starts: what it got before, it gets back with its override.
    granted = machine.ledger.needed_queues()
    for queue, driver in before.drivers.items():
        spared = queue not in granted and reserves(queue) and _consistent(queue, before)
        if driver == HOST and spared and not admin:
            now_bound = state.queues[queue].driver
            require(f"the reserved queue {queue} is bound to {now_bound!r}", now_bound == HOST)


def _consistent(queue: Apqn, before: View) -> bool:
    override = before.overrides.get(queue, "")
    by_masks = queue.adapter in before.apmask and queue.domain in before.aqmask
    return override == HOST or (not override and by_masks)


def require_started(machine: Machine, request: Request) -> None:
    """The guest has all its queues, and none that is reserved."""
    ledger, state = machine.ledger, machine.kernel.state
    lease = ledger.leases.get(request.mdev)
    require(f"{request.guest} has no lease", lease is not None and lease.state == HELD)
    assert lease
    made = state.mdevs.get(request.mdev)
    require(f"{request.guest} has {made}", made is not None and made.matrix == lease.matrix)
    assert made
    for queue in lease.matrix.queues():
        there = state.queues.get(queue)
        if there:
            require(f"{queue} is bound to {there.driver!r}", there.driver == VFIO)
            seen = made.guest_matrix.holds(queue)
            require(f"{request.guest} would not see {queue}", seen)
    reserves = parse_policy(machine.files.texts.get(POLICY) or None).reserves
    require("it was given a reserved queue", not any(map(reserves, lease.matrix.queues())))


def require_changed(machine: Machine, before: Machine, request: Request, *, kept: bool) -> None:
    """The guest that runs has what it requested, or what it had."""
    lease, had = machine.ledger.leases.get(request.mdev), before.ledger.leases.get(request.mdev)
    require(f"{request.guest} has {lease} and had {had}", lease is not None and had is not None)
    assert lease
    assert had
    made = machine.kernel.state.mdevs.get(request.mdev)
    require(f"{request.guest} is {lease.state}", lease.state == HELD and lease.before is None)
    require(f"{request.guest} has {made}", made is not None and made.matrix == lease.matrix)
    wanted = request.matrix if kept else had.matrix
    if request.criteria if kept else set(had.matrix.queues()) - before.kernel.state.queues.keys():
        return  # what it gets is decided elsewhere; what is no more cannot come back
    require(f"{request.guest} has {lease.matrix}", lease.matrix == wanted)


def require_refused(machine: Machine, before: Machine, request: Request) -> None:
    """The host is as it was, or as a reconcile, or the end of the guest's earlier life, would make it."""
    queues = before.kernel.state.queues.items()
    # What was tried and given up has found them a driver.
    loose = frozenset(name for name, queue in queues if not queue.driver)
    now = _told(machine, loose)
    if now == _told(before, loose) or is_stuck(before):
        return
    ended = before.twin()
    with suppress(ApvfioError):
        reconcile_host(before)
    with suppress(ApvfioError):
        release_guest(ended, request.guest_uuid)
    either = (_told(before, loose), _told(ended, loose))
    odd = " or ".join(difference(now, told) for told in either)
    require(f"the refused start of {request.guest} left {odd}", now in either)


def _told(machine: Machine, loose: frozenset[Apqn] = frozenset()) -> State:
    """All that counts: not how a lease ends, nor that a bit is pending that is set."""
    now, ledger = view(machine), machine.ledger
    for lease in ledger.leases.values():
        if lease.state == ENDING:
            ledger = ledger.without_leases(lease.mdev)
    now = now._replace(drivers={q: driver for q, driver in now.drivers.items() if q not in loose})
    return State(now, promises(ledger._replace(pending=ledger.pending - now.masks)))


def require_reconciled(machine: Machine) -> None:
    """The promises after a reconcile that nothing has hindered."""
    for disagreement in disagreements(machine):
        raise ViolationError(disagreement)
    for bit in still_pending(machine):
        raise ViolationError(f"unpaid: {bit}")
    twin = machine.twin()
    before = _told(twin)
    again = reconcile_host(twin)
    require(f"another reconcile takes {again.steps}", not again.steps and _told(twin) == before)


def is_stuck(machine: Machine) -> bool:
    """Whether a device that must go is open and the kernel does not ask for it: nothing goes on behind it.

    On a real host such a call waits for the device to be closed, and fails if that takes too long.
    """
    mdevs, doomed = machine.kernel.state.mdevs, machine.ledger.mdevs_to_remove()
    waits = not PROFILES[machine.kernel.state.profile].asks_to_let_go
    return any(uuid in mdevs and mdevs[uuid].open and (waits or not mdevs[uuid].vm) for uuid in doomed)


def require(what: str, holds: bool) -> None:
    """ViolationError telling ``what`` unless it ``holds``."""
    if not holds:
        raise ViolationError(what)

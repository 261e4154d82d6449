# SPDX-License-Identifier: Apache-2.0
"""Acquire, release, reconcile: the only place that changes a host.

Each of the three changes the ledger first and then takes the steps that are due, reading
back what each step did, because a write that succeeds proves little here: a mask write
does not report queues that failed to rebind, and an assign does not say what the guest gets.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from apvfio import ledger as ledgers
from apvfio.cards import read_keyed
from apvfio.errors import ApvfioError, ConflictError, printable
from apvfio.host import (
    Host,
    in_use,
    is_online,
    read_driver,
    read_guest_queues,
    read_host,
    read_matrix,
)
from apvfio.host_facts import read_facts
from apvfio.ledger import ENDING, HELD, STARTING, Ledger
from apvfio.plan.drift import drift
from apvfio.plan.hygiene import hygiene
from apvfio.plan.mode import steps_to
from apvfio.plan.planner import Plan, make_plan
from apvfio.plan.step import Step
from apvfio.plan.steps import due, offline_path, struck
from apvfio.policy import POLICY, Policy, parse_policy, read_times
from apvfio.resolve import planned
from apvfio.writes import bind, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.ledger import Lease
    from apvfio.matrix import Apqn
    from apvfio.request import Request
    from apvfio.sysfs import Sysfs
    from apvfio.system import System

_NAP = 0.05


class Outcome(NamedTuple):
    """What a call did: the steps taken, and the ledger after them."""

    steps: list[Step]
    ledger: Ledger
    seen: tuple[str, ...] = ()
    """How the host differed from the ledger when it was found, in sentences."""

    @property
    def unpaid(self) -> Ledger:
        """What could not be paid yet, as a ledger without leases."""
        needed = self.ledger.needed_queues()
        return self.ledger._replace(
            leases={},
            owed=self.ledger.owed - self.ledger.needed(),
            overrides={q: before for q, before in self.ledger.overrides.items() if q not in needed},
            offline=frozenset(),
        )


def current(system: System) -> tuple[Host, Ledger, Policy]:
    """What planning needs: the host, the ledger and the policy as they are now."""
    host = read_host(system.sysfs)
    return host, ledgers.load(system.files, system.boot_id), parse_policy(system.files.read(POLICY))


def plan(system: System, request: Request) -> Plan:
    """What `acquire` would do now; changes nothing.

    Here alone the cards are asked for the keys that the guest would find: it takes them a while.
    """
    host, ledger, policy = current(system)
    found = _planned(system, request, host, ledger, policy)
    keyed = read_keyed(system.sysfs, host, found.request.matrix)
    return found._replace(warnings=(*found.warnings, *hygiene(found.request, ledger, keyed)))


def acquire(system: System, request: Request) -> Plan:
    """Give a starting guest its queues: plan, free, create, assign, verify.

    On any error all goes back; a request that cannot be met leaves the host untouched.
    """
    with system.lock():
        host, ledger, policy = current(system)
        found = _planned(system, request, host, ledger, policy)
        found = found._replace(ledger=_noting_offline(found, host, system.sysfs))
        lease = found.lease
        ledgers.save(system.files, found.ledger)
        try:
            take(system.sysfs, found.steps)
            there = [queue for queue in lease.matrix.queues() if queue in host.drivers]
            bind(system.sysfs, there)
            _verify_guest(system.sysfs, lease, there)
        except (ApvfioError, OSError) as error:
            _give_up(system, found.ledger, lease)
            raise _told(error).for_guest(lease.guest) from None
        held = found.ledger.with_lease(lease._replace(state=HELD)).handed(lease)
        # Only now: a choice that failed to work shall not be made again.
        ledgers.save(system.files, held.remembering(lease.uuid, lease.matrix) if request.wish else held)
        return found


def release(system: System, guest_uuid: str, *, force: bool = False) -> Outcome:
    """Take home what the guest ``guest_uuid`` holds, and pay what can be paid.

    A device that a guest still has open is not pulled away unless ``force``: ConflictError.
    Releasing what is not held is no error: there may be debts to pay.
    """
    with system.lock():
        host = read_host(system.sysfs)
        found = ledgers.load(system.files, system.boot_id)
        if not force:
            deadline = time.monotonic() + read_times(system.files).release_wait
            for lease in found.of_guest(guest_uuid):
                _wait_until_idle(system.sysfs, lease, deadline)
        return _settle(system, host, found, _settled(found, host).ending(guest_uuid))


def reconcile(system: System) -> Outcome:
    """Take whatever steps are due: what a crash left half done, and debts that can be paid now."""
    with system.lock():
        host = read_host(system.sysfs)
        found = ledgers.load(system.files, system.boot_id)
        outcome = _settle(system, host, found, _settled(found, host))
        return outcome._replace(seen=tuple(drift(host, found)))


def switch_mode(system: System, mode: str) -> Outcome:
    """Open the host for the mechanism ``mode``, and keep to it until the next boot.

    Masks an administrator narrowed are widened, overrides he set are cleared: he asked for it.
    """
    with system.lock():
        host = read_host(system.sysfs)
        found = ledgers.load(system.files, system.boot_id)
        settled = _settled(found, host)
        if settled.leases and host.mode not in (None, mode):
            lease = next(iter(settled.leases.values()))
            raise ConflictError(
                f"guest {printable(lease.guest)} holds queues.", remedy="Stop all guests first."
            )
        steps = steps_to(mode, host)
        take(system.sysfs, steps)
        ledgers.save(system.files, struck(settled, read_host(system.sysfs))._replace(mode=mode))
        return Outcome(steps, settled)


def _planned(system: System, request: Request, host: Host, ledger: Ledger, policy: Policy) -> Plan:
    def make(named: Request, ledger: Ledger) -> Plan:
        facts = read_facts(system, host, [named.matrix], policy)
        return make_plan(named, host, ledger, policy, facts)

    return planned(system.sysfs, request, host, _settled(ledger, host), policy, make=make)


def _settled(ledger: Ledger, host: Host) -> Ledger:
    """The ledger as one finds it under the lock, made true.

    A lease still starting belongs to a hook that died: libvirt has counted that as a failed
    start, so the lease ends. So does one whose device somebody removed: its guest has lost the
    queues, and putting a new device in its place would not bring them back. A debt that
    somebody else paid is forgotten.
    """
    for lease in ledger.leases.values():
        if lease.state == STARTING or (lease.state == HELD and lease.mdev not in host.mdevs):
            ledger = ledger.with_lease(lease._replace(state=ENDING))
    return struck(ledger, host)


def _noting_offline(found: Plan, host: Host, sysfs: Sysfs) -> Ledger:
    """The plan's ledger, with those of the queues to be taken that are offline now."""
    offline = {queue for queue in found.taken(host) if not is_online(sysfs, queue)}
    return found.ledger._replace(offline=found.ledger.offline | offline)


def _settle(system: System, host: Host, found: Ledger, ledger: Ledger) -> Outcome:
    """Make the host what ``ledger`` says and strike from it what is over; ``found`` is what was saved."""
    steps = due(ledger, host)
    if ledger != found:
        ledgers.save(system.files, ledger)
    if steps:
        take(system.sysfs, steps)
        host = read_host(system.sysfs)
    found = ledger
    for lease in ledger.leases.values():
        if lease.state == ENDING and not (lease.made and lease.mdev in host.mdevs):
            ledger = ledger.without(lease.mdev)
    written = {step.path for step in steps}
    done = {queue for queue in ledger.offline if offline_path(queue) in written}
    ledger = struck(ledger._replace(offline=ledger.offline - done), host)
    if ledger != found:
        ledgers.save(system.files, ledger)
    return Outcome(steps, ledger)


def _told(error: ApvfioError | OSError) -> ApvfioError:
    if isinstance(error, ApvfioError):
        return error
    return ApvfioError(
        f"reading back what was done failed: {error}.",
        remedy="Perhaps an adapter went away meanwhile: see 'apvfio queues', then try again.",
    )


def _give_up(system: System, ledger: Ledger, lease: Lease) -> None:
    try:
        _settle(system, read_host(system.sysfs), ledger, ledger.ending(lease.uuid))
    except ApvfioError:
        # The ledger says what is left to undo and the next call will; the first error is the one to tell.
        return


def _verify_guest(sysfs: Sysfs, lease: Lease, there: list[Apqn]) -> None:
    """See that the guest will get all that is ``there``: an assign that succeeds does not say so."""
    held = read_matrix(sysfs, lease.mdev)
    if held != lease.matrix:
        raise ApvfioError(f"the mediated device {lease.mdev} holds {held} where {lease.matrix} was assigned.")
    seen = read_guest_queues(sysfs, lease.mdev, lease.matrix)
    missing = [queue for queue in there if seen is not None and queue not in seen]
    if missing:
        drivers = {read_driver(sysfs, queue) or "no driver" for queue in missing}
        raise ApvfioError(
            f"{', '.join(map(str, missing[:8]))} would not reach the guest (bound to {', '.join(drivers)}).",
            queues=missing,
            remedy="See 'apvfio queues' for their state.",
        )


def _wait_until_idle(sysfs: Sysfs, lease: Lease, deadline: float) -> None:
    while busy := [queue for queue in lease.matrix.queues() if in_use(sysfs, queue)]:
        if time.monotonic() > deadline:
            raise ConflictError(
                f"it still has {busy[0]} in use.",
                guest=lease.guest,
                queues=busy,
                remedy="Stop the guest first.",
            )
        time.sleep(_NAP)

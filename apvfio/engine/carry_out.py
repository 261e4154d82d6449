# SPDX-License-Identifier: Apache-2.0
"""Bring a host to what a ledger says: apply the pending steps in parts, and release the lock between them."""

from __future__ import annotations

import time

from apvfio.engine.deferred import Pace
from apvfio.engine.state import bring_up_to_date, read_ledger
from apvfio.events import record
from apvfio.kernel.apply import apply_steps
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS, HOST_DRIVER, Host
from apvfio.model.ledger import CHANGING, ENDING, Ledger
from apvfio.model.step import REMOVE, Step
from apvfio.model.text import resetting
from apvfio.model.typed import NamedTuple
from apvfio.plan.partial_return import limit_returns, returning_queues
from apvfio.plan.steps import offline_path, pending_steps, without_returned
from apvfio.store import ledger_file
from apvfio.store.stop_records import forget_served

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs, System

_LET_IN = 0.05
"""Seconds between two turns, in which a call that waits for the lock gets it."""


class Outcome(NamedTuple):
    """What a call did: the steps taken, and the ledger after them."""

    steps: list[Step]
    ledger: Ledger
    seen: tuple[str, ...] = ()
    """How the host differed from the ledger when it was found, in sentences."""
    deferred: bool = False
    """Whether the rest is left to the systemd unit."""
    unfinished: bool = False
    """Whether the rest is left for another turn."""

    @property
    def pending(self) -> Ledger:
        """The returns that are still pending, as a ledger without leases."""
        ledger = self.ledger.without_overrides(self.ledger.needed_queues())
        pending = ledger.pending - self.ledger.needed_bits()
        return ledger._replace(leases={}, pending=pending, offline_queues=frozenset())


def carry_out(system: System, host: Host, found: Ledger, ledger: Ledger, pace: Pace) -> Outcome:
    """Save ``ledger`` in place of ``found``, apply the pending steps, and save the rest.

    One turn returns no more than ``pace`` allows. The removal of a device resets all its queues; its time
    shows how long the return of each queue will take.
    """
    saved = [found]
    if ledger != found:
        ledger_file.save(system.files, ledger)
        saved.append(ledger)
    try:
        outcome = _carry_out(system.sysfs, host, ledger, pace)
    except ApvfioError:
        record.changes(system, saved)
        raise
    if outcome.ledger != ledger:
        ledger_file.save(system.files, outcome.ledger)
        saved.append(outcome.ledger)
    if len(saved) > 1:
        record.changes(system, saved)
    forget_served(system, outcome.ledger)
    return outcome


def _carry_out(sysfs: Sysfs, host: Host, ledger: Ledger, pace: Pace) -> Outcome:
    """Apply the pending steps of ``ledger``; the outcome has the ledger without finished entries."""
    removals = [step for step in pending_steps(ledger, host) if step.op == REMOVE]
    paths = {step.path for step in removals}
    gone = {uuid: matrix for uuid, matrix in host.mdevs.items() if AP_MDEVS.remove(uuid) in paths}
    if gone:
        pace.progress(resetting([queue for matrix in gone.values() for queue in matrix.queues()]))
    _take(sysfs, removals, pace, len(removals))
    host = host._replace(mdevs={k: v for k, v in host.mdevs.items() if k not in gone})
    if ledger.moving():  # its end makes the returns
        return Outcome(removals, without_what_is_over(ledger, read_host(sysfs), removals))

    going = returning_queues(ledger, host)
    deferred = pace.defers(len(going))
    part = limit_returns(ledger, host, 0 if deferred else pace.portion) if going else ledger
    part_going = len(returning_queues(part, host)) if going else 0
    rest = pending_steps(part, host)
    if part_going:
        pace.progress(resetting(going))
    _take(sysfs, rest, pace, part_going)
    back, undoing = _roll_back(sysfs, ledger, host)
    taken = [*removals, *rest, *undoing]
    # Finished returns show in the overrides only if some are pending.
    now_so = read_host(sysfs, overrides=bool(back.overrides)) if taken else host
    after = without_what_is_over(back, now_so, taken)
    # Queues of a live change can be returned only now that the device no longer has them.
    unfinished = (part_going < len(going) or back != ledger) and not deferred
    return Outcome(taken, after, deferred=deferred, unfinished=unfinished)


def _roll_back(sysfs: Sysfs, ledger: Ledger, host: Host) -> tuple[Ledger, list[Step]]:
    """As `apvfio.engine.rollback.roll_back`, which is loaded only if a guest is being changed."""
    if not any(lease.state == CHANGING for lease in ledger.leases.values()):
        return ledger, []
    from apvfio.engine.rollback import roll_back  # noqa: PLC0415

    return roll_back(sysfs, ledger, host)


def carry_out_rest(system: System, outcome: Outcome, pace: Pace) -> Outcome:
    """Take the remaining turns after the first one, whose lock the caller has released."""
    while outcome.unfinished:
        time.sleep(_LET_IN)
        with system.lock():
            host, found, ledger = read_ledger(system)
            turn = carry_out(system, host, found, ledger, pace)
        in_vain = turn.ledger == found
        outcome = turn._replace(
            steps=[*outcome.steps, *turn.steps],
            seen=outcome.seen,
            unfinished=turn.unfinished and not in_vain,
        )
    return outcome


def finish_ended(system: System) -> None:
    """Return the queues of guests that have ended, and roll back live changes whose process has ended.

    For calls under the lock that change something else.
    """
    host, found, ledger = read_ledger(system)
    unfinished = ledger.leases != found.leases or bool(ledger.mdevs_to_remove())
    while unfinished:
        turn = carry_out(system, host, found, ledger, Pace(at_once=True))
        unfinished = turn.unfinished and turn.ledger != found
        host, found = read_host(system.sysfs), turn.ledger
        ledger = bring_up_to_date(system, found, host)


def without_what_is_over(ledger: Ledger, host: Host, taken: list[Step]) -> Ledger:
    """Return ``ledger`` without the entries that are finished now that ``taken`` have made ``host``."""
    ending = [lease for lease in ledger.leases.values() if lease.state == ENDING]
    over = [lease.mdev for lease in ending if not (lease.created and lease.mdev in host.mdevs)]
    ledger = ledger.without_leases(*over)
    written = {step.path for step in taken}
    # A bit that could not be set keeps the queue from the host, and the step had no effect.
    returned = {queue for queue in ledger.offline_queues if host.drivers.get(queue) == HOST_DRIVER}
    done = {queue for queue in returned if offline_path(queue) in written}
    return without_returned(ledger._replace(offline_queues=ledger.offline_queues - done), host)


def _take(sysfs: Sysfs, steps: list[Step], pace: Pace, queues: int) -> None:
    begun = time.monotonic()
    apply_steps(sysfs, steps)
    pace.measured(queues, time.monotonic() - begun)

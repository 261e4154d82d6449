# SPDX-License-Identifier: Apache-2.0
"""Making a host what the ledger says it should be, at once or a portion at a time."""

from __future__ import annotations

import time

from apvfio.engine.calls import answer_of, parse_call
from apvfio.engine.deferred import QUICKEST, Pace
from apvfio.engine.evidence import Evidence
from apvfio.engine.rollback import roll_back
from apvfio.events import record
from apvfio.kernel.apply import apply_steps
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import printable
from apvfio.model.host import AP_MDEVS, HOST_DRIVER, Host
from apvfio.model.ledger import CHANGING, ENDING, HELD, STARTING, Ledger
from apvfio.model.progress import no_progress
from apvfio.model.step import REMOVE, Step
from apvfio.model.text import resetting
from apvfio.model.typed import NamedTuple
from apvfio.plan.partial_return import limit_returns, returning_queues
from apvfio.plan.steps import offline_path, pending_steps, with_relied_on_mask, with_retaken, without_returned
from apvfio.store import ledger_file
from apvfio.store.processes import now, should_run
from apvfio.store.stop_records import ended, forget_served

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.engine.deferred import Haste
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.ledger import Lease, MaskBits
    from apvfio.model.progress import Progress
    from apvfio.store.waiting import Room

_LET_IN = 0.05
"""Longer than anybody who waits for the lock takes to look for it again."""


class Outcome(NamedTuple):
    """What a call did: the steps taken, and the ledger after them."""

    steps: list[Step]
    ledger: Ledger
    seen: tuple[str, ...] = ()
    """How the host differed from the ledger when it was found, in sentences."""
    handed_over: bool = False
    """Whether the rest is left to the unit that watches for it."""
    unfinished: bool = False
    """Whether the rest is left for another turn."""

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


def settled(system: System, ledger: Ledger, host: Host, evidence: Evidence | None = None) -> Ledger:
    """The ledger as one finds it under the lock, made true.

    Leases end whose guest has stopped, by record or because no process of it is left, whose device somebody
    removed (the guest has lost the queues, and a new device would not bring them back), and those still
    starting whose hook died (libvirt has counted that as a failed start; but not if the hook lives and has
    only to claim what it was served). No lease ends while something shows that its guest has the device.
    A change whose process died is undone. A promise ends with the mdevctl to which it was made. A debt
    that somebody else paid is forgotten, and a guest leans on the mask that keeps its queues now.
    """
    signs = evidence or Evidence(system)
    served = _served(system.room)
    stopped = ended(system)
    changed = []
    for lease in ledger.leases.values():
        gone = lease.mdev not in host.mdevs
        lost = gone and lease.state in (HELD, CHANGING)
        died = lease.state == STARTING and lease.mdev not in served
        ends = lost or died or lease.state == ENDING or stopped(lease)
        # A guest that runs has nothing of a start that died while it made the device.
        half_made = died and host.mdevs.get(lease.mdev) != lease.matrix
        if ends and (gone or half_made or not signs.holder(lease)):
            changed.append(lease._replace(state=ENDING, was=None))
        elif died or lease.state == ENDING:
            changed.append(lease._replace(state=HELD, was=None))
        elif lease.was and not system.lives(lease.was.changer):
            changed.append(lease.undone())
        elif _vanished(system, lease, signs):
            changed.append(lease._replace(state=ENDING))
    broken = [promise.mdev for promise in ledger.promises.values() if not system.lives(promise.process)]
    ledger = ledger.with_leases(changed).breaking(*broken)
    return with_retaken(without_returned(with_relied_on_mask(ledger, host), host), host)


def serve_ended(system: System) -> None:
    """Return what guests hold that have ended, and undo changes that died.

    For calls under the lock that change something else.
    """
    host = read_host(system.sysfs)
    found = ledger_file.load(system.files, system.boot_id)
    ledger = settled(system, found, host)
    unfinished = ledger.leases != found.leases or bool(ledger.doomed())
    while unfinished:
        turn = settle(system, host, found, ledger, pace=Pace(at_once=True))
        unfinished = turn.unfinished and turn.ledger != found
        host, found = read_host(system.sysfs), turn.ledger
        ledger = settled(system, found, host)


def differences(system: System, host: Host, ledger: Ledger, meant: MaskBits | None = None) -> list[str]:
    """How the host differs from the ``ledger``, in sentences: `drift`, and guests that run no more.

    ``meant`` are the mask bits that are clear on purpose, those of the host's configuration if not given.
    """
    from apvfio.engine.intended_masks import intended_masks  # noqa: PLC0415
    from apvfio.plan.drift import drift  # noqa: PLC0415

    signs = Evidence(system)
    dead = [lease for lease in ledger.leases.values() if _vanished(system, lease, signs)]
    left = "holds queues but does not run, and libvirt has not said when it ended: 'reconcile' returns them"
    meant = intended_masks(system) if meant is None else meant
    return [*(f"guest {printable(lease.guest)}: it {left}" for lease in dead), *drift(host, ledger, meant)]


def _vanished(system: System, lease: Lease, signs: Evidence) -> bool:
    """Whether the guest should run and nothing shows that it does: libvirt never said that it ended."""
    return system.knows_processes and should_run(lease, now()) and not signs.holder(lease)


def _served(room: Room) -> set[str]:
    """The devices of the guests that were served and whose hooks live to claim them."""
    answered = (ticket.call for ticket in room.tickets() if ticket.answer == answer_of(None))
    return {call.request.mdev for call in map(parse_call, answered) if call}


def settle(
    system: System,
    host: Host,
    found: Ledger,
    ledger: Ledger,
    *,
    pace: Pace,
    haste: Haste | None = None,
    tell: Progress = no_progress,
) -> Outcome:
    """Make the host what ``ledger`` says and strike from it what is over; ``found`` is what was saved.

    No more is given back than ``pace`` allows in one turn. With ``haste`` what would take too long
    is left to the unit. The time that removing a device takes, the reset of its queues all at once,
    tells how long each of them will take on its own way to the host. ``tell`` hears what is waited for.
    """
    if ledger != found:
        record.save(system, ledger, found)
    steps = pending_steps(ledger, host)
    if steps and haste and haste.hands_over(QUICKEST):
        return Outcome([], ledger, handed_over=True)
    removals = [step for step in steps if step.op == REMOVE]
    paths = {step.path for step in removals}
    gone = {uuid: matrix for uuid, matrix in host.mdevs.items() if AP_MDEVS.remove(uuid) in paths}
    if gone:
        tell(resetting([queue for matrix in gone.values() for queue in matrix.queues()]))
    _take(system.sysfs, removals, pace, len(removals))
    host = host._replace(mdevs={k: v for k, v in host.mdevs.items() if k not in gone})

    going = returning_queues(ledger, host)
    handed_over = bool(going and haste and haste.hands_over(len(going) * pace.seconds))
    part = limit_returns(ledger, host, 0 if handed_over else pace.portion) if going else ledger
    part_going = len(returning_queues(part, host)) if going else 0
    rest = pending_steps(part, host)
    if part_going:
        tell(resetting(going))
    _take(system.sysfs, rest, pace, part_going)
    back, undoing = roll_back(system.sysfs, ledger, host)
    taken = [*removals, *rest, *undoing]
    # What is over shows in the overrides only where some are owed.
    now_so = read_host(system.sysfs, overrides=bool(back.overrides)) if taken else host
    after = over(back, now_so, taken)
    if after != ledger:
        record.save(system, after, ledger)
    forget_served(system, after)
    # What a change had taken can go home only now that its device no longer has it.
    unfinished = (part_going < len(going) or back != ledger) and not handed_over
    return Outcome(taken, after, handed_over=handed_over, unfinished=unfinished)


def finished(
    system: System, outcome: Outcome, pace: Pace, haste: Haste | None = None, tell: Progress = no_progress
) -> Outcome:
    """The turns that are left after a first one; between two of them others get the lock."""
    while outcome.unfinished:
        time.sleep(_LET_IN)
        with system.lock():
            host = read_host(system.sysfs)
            found = ledger_file.load(system.files, system.boot_id)
            made_true = settled(system, found, host)
            turn = settle(system, host, found, made_true, pace=pace, haste=haste, tell=tell)
        in_vain = turn.ledger == found
        outcome = turn._replace(
            steps=[*outcome.steps, *turn.steps],
            seen=outcome.seen,
            unfinished=turn.unfinished and not in_vain,
        )
    return outcome


def _take(sysfs: Sysfs, steps: list[Step], pace: Pace, queues: int) -> None:
    begun = time.monotonic()
    apply_steps(sysfs, steps)
    pace.measured(queues, time.monotonic() - begun)


def over(ledger: Ledger, host: Host, taken: list[Step]) -> Ledger:
    """``ledger`` without what is over when the steps ``taken`` have made ``host`` what it is."""
    ledger = ledger.without(
        *(
            lease.mdev
            for lease in ledger.leases.values()
            if lease.state == ENDING and not (lease.made and lease.mdev in host.mdevs)
        )
    )
    written = {step.path for step in taken}
    # A bit that could not go back keeps the queue from the host, and the step was for nothing.
    home = {queue for queue in ledger.offline if host.drivers.get(queue) == HOST_DRIVER}
    done = {queue for queue in home if offline_path(queue) in written}
    return without_returned(ledger._replace(offline=ledger.offline - done), host)

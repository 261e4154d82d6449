# SPDX-License-Identifier: Apache-2.0
"""Making a host what the ledger says it should be, at once or a portion at a time."""

from __future__ import annotations

import time

from apvfio import ledgers, records
from apvfio.calls import Acquire, answer_of, parse_call
from apvfio.errors import printable
from apvfio.handover import QUICKEST
from apvfio.host import AP_MDEVS, HOST_DRIVER, Host, read_host
from apvfio.ledger import CHANGING, ENDING, HELD, STARTING, Ledger
from apvfio.liveness import abandoned, now
from apvfio.plan.portion import portion, queues_going_home
from apvfio.plan.step import REMOVE, Step
from apvfio.plan.steps import due, leaning, offline_path, reclaimed, struck
from apvfio.taking_back import take_back
from apvfio.telling import silent
from apvfio.typed import NamedTuple
from apvfio.wording import resetting
from apvfio.writes import take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.handover import Haste, Pace
    from apvfio.ledger import Debt
    from apvfio.sysfs import Sysfs
    from apvfio.system import System
    from apvfio.telling import Tell
    from apvfio.waiting import Room

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


def settled(system: System, ledger: Ledger, host: Host) -> Ledger:
    """The ledger as one finds it under the lock, made true.

    A lease still starting belongs to a hook that died: libvirt has counted that as a failed
    start, so the lease ends; unless the hook lives and has only to claim what it was served. So does
    one whose device somebody removed: its guest has lost the queues, and putting a new device in
    its place would not bring them back. A change whose process died is undone. A promise ends with
    the mdevctl to which it was made. A debt that somebody else paid is forgotten, and a guest leans
    on the mask that keeps its queues now.
    """
    starting = [lease for lease in ledger.leases.values() if lease.state == STARTING]
    served = _served(system.room) if starting else set()
    settled_leases = []
    for lease in ledger.leases.values():
        died = lease.state == STARTING and lease.mdev not in served
        if died or (lease.state in (HELD, CHANGING) and lease.mdev not in host.mdevs):
            settled_leases.append(lease._replace(state=ENDING, was=None))
        elif lease.was and not system.lives(lease.was.changer):
            settled_leases.append(lease.undone())
    broken = [promise.mdev for promise in ledger.promises.values() if not system.lives(promise.process)]
    ledger = ledger.with_leases(settled_leases).breaking(*broken)
    return reclaimed(struck(leaning(ledger, host), host), host)


def differences(system: System, host: Host, ledger: Ledger, meant: Debt | None = None) -> list[str]:
    """How the host differs from the ``ledger``, in sentences: `drift`, and guests that run no more.

    ``meant`` are the mask bits that are clear on purpose, those of the host's configuration if not given.
    """
    from apvfio.meant import meant_masks  # noqa: PLC0415
    from apvfio.plan.drift import drift  # noqa: PLC0415

    running = system.running_guests()
    dead = abandoned(ledger, running, now()) if running is not None else []
    left = "holds queues but does not run, and libvirt has not said when it ended: 'reconcile' returns them"
    meant = meant_masks(system) if meant is None else meant
    return [*(f"guest {printable(lease.guest)}: it {left}" for lease in dead), *drift(host, ledger, meant)]


def without_abandoned(system: System, ledger: Ledger, stopped: Mapping[str, int] | None = None) -> Ledger:
    """The ledger in which the leases of guests end that do not run any more, though nobody said so.

    ``stopped`` as for `abandoned`.
    """
    running = system.running_guests()
    left = abandoned(ledger, running, now(), stopped) if running is not None else ()
    return ledger.with_leases(lease._replace(state=ENDING) for lease in left)


def _served(room: Room) -> set[str]:
    """The devices of the guests that were served and whose hooks live to claim them."""
    answered = (ticket.call for ticket in room.tickets() if ticket.answer == answer_of(None))
    return {call.request.mdev for call in map(parse_call, answered) if isinstance(call, Acquire)}


def settle(
    system: System,
    host: Host,
    found: Ledger,
    ledger: Ledger,
    *,
    pace: Pace,
    haste: Haste | None = None,
    tell: Tell = silent,
) -> Outcome:
    """Make the host what ``ledger`` says and strike from it what is over; ``found`` is what was saved.

    No more is given back than ``pace`` allows in one turn. With ``haste`` what would take too long
    is left to the unit. The time that removing a device takes, the reset of its queues all at once,
    tells how long each of them will take on its own way to the host. ``tell`` hears what is waited for.
    """
    if ledger != found:
        records.save(system, ledger, found)
    steps = due(ledger, host)
    if steps and haste and haste.hands_over(QUICKEST):
        return Outcome([], ledger, handed_over=True)
    removals = [step for step in steps if step.op == REMOVE]
    paths = {step.path for step in removals}
    gone = {uuid: matrix for uuid, matrix in host.mdevs.items() if AP_MDEVS.remove(uuid) in paths}
    if gone:
        tell(resetting([queue for matrix in gone.values() for queue in matrix.queues()]))
    _take(system.sysfs, removals, pace, len(removals))
    host = host._replace(mdevs={k: v for k, v in host.mdevs.items() if k not in gone})

    going = queues_going_home(ledger, host)
    handed_over = bool(going and haste and haste.hands_over(len(going) * pace.seconds))
    part = portion(ledger, host, 0 if handed_over else pace.portion) if going else ledger
    part_going = len(queues_going_home(part, host)) if going else 0
    rest = due(part, host)
    if part_going:
        tell(resetting(going))
    _take(system.sysfs, rest, pace, part_going)
    back, undoing = take_back(system.sysfs, ledger, host)
    taken = [*removals, *rest, *undoing]
    # What is over shows in the overrides only where some are owed.
    now_so = read_host(system.sysfs, overrides=bool(back.overrides)) if taken else host
    after = over(back, now_so, taken)
    if after != ledger:
        records.save(system, after, ledger)
    # What a change had taken can go home only now that its device no longer has it.
    unfinished = (part_going < len(going) or back != ledger) and not handed_over
    return Outcome(taken, after, handed_over=handed_over, unfinished=unfinished)


def finished(
    system: System, outcome: Outcome, pace: Pace, haste: Haste | None = None, tell: Tell = silent
) -> Outcome:
    """The turns that are left after a first one; between two of them others get the lock."""
    while outcome.unfinished:
        time.sleep(_LET_IN)
        with system.lock():
            host = read_host(system.sysfs)
            found = ledgers.load(system.files, system.boot_id)
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
    take(sysfs, steps)
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
    return struck(ledger._replace(offline=ledger.offline - done), host)

# SPDX-License-Identifier: Apache-2.0
"""A verb struck at one of its writes, one reconcile by another process, and what must be true then.

    PYTHONPATH=tests python3 -m model.recovery

strikes every verb on every kind of host with every fault at every write, and prints the table.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.reconcile import reconcile_host
from apvfio.model.errors import ApvfioError
from hosts import guest
from memory_host import Killed
from model.befores import cells
from model.crashes import KILL, NEVER, Fault, faults_at
from model.endings import lives, require_home, require_no_record, require_untouched, stops
from model.figures import Table
from model.verbs import VERBS, WHOLE
from model.views import State, difference, disagreements, promises, still_pending, view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from memory_host import Machine
    from model.befores import Cell
    from model.verbs import Verb

    Choice = Callable[[list[Fault]], Iterable[Fault]]


class LostError(AssertionError):
    """A promise was broken."""


def pairs() -> Iterator[tuple[Verb, Cell]]:
    """Every verb on every kind of host where it can be."""
    for verb in VERBS:
        for cell in cells():
            if verb.fits(cell):
                yield verb, cell


class Explored(NamedTuple):
    """What came of striking a verb at all its writes."""

    tried: int
    lost: list[str]


def explore(verb: Verb, cell: Cell, choice: Choice) -> Explored:
    """Strike ``verb`` on a host of that kind with the ``choice`` of all the faults there are."""
    start = cell.machine()
    verb.before(start)
    wanted = start.twin()
    verb.run(wanted)
    faults = [fault for n, path in enumerate(wanted.faults.paths, 1) for fault in faults_at(n, path)]
    aims = [_reconciled(start.twin()), _reconciled(wanted.twin())]
    if verb.between:
        between = start.twin()
        verb.between(between)
        aims.append(_reconciled(between))
    # Who starts again in the verb has not stopped for good.
    stopped = {n: when for n, when in stops(start).items() if not wanted.ledger.of_guest(guest(n))}
    tried, lost = 0, []
    for fault in (NEVER, *choice(faults)):
        tried += 1
        try:
            _strike(verb, start.twin(), fault, aims, stopped)
        except (AssertionError, ApvfioError, OSError) as error:
            lost.append(f"{verb.name} on {cell}, {fault}: {type(error).__name__}: {error}")
    return Explored(tried, lost)


def _strike(verb: Verb, machine: Machine, fault: Fault, aims: list[State], stopped: dict[int, int]) -> None:
    alive = lives(machine, set()) if verb.spares else []
    machine.faults.arm(fault.n, fault.strike, late=fault.late)
    done = True
    try:
        verb.run(machine)
    except (ApvfioError, Killed):
        done = False
    require_untouched(machine, alive, set())
    found = _reconciled(machine.process())
    require_untouched(machine, alive, set())
    require_home(machine, stopped, time.clock_gettime(time.CLOCK_BOOTTIME))
    require_no_record(machine)
    _require(shared := disagreements(machine), not shared)
    _require(pending := still_pending(machine), not pending)
    again = reconcile_host(machine.process())
    _require(again.steps, not again.steps and _state(machine) == found)
    if verb.promise == WHOLE or (verb.undoes and fault.errno != KILL):
        _require(difference(found, aims[1]), found in (aims[1:2] if done else aims))
        return
    _require_parts(found, *aims[:2])
    verb.run(machine.process())
    _require(difference(_state(machine), aims[1]), _state(machine).view == aims[1].view)


def _reconciled(machine: Machine) -> State:
    reconcile_host(machine)
    return _state(machine)


def _state(machine: Machine) -> State:
    return State(view(machine), promises(machine.ledger))


def _require_parts(found: State, before: State, after: State) -> None:
    """Each bit of a mask, each override, driver and file is as in one of the two; a queue may be unbound."""
    parts, one, two = found.view._asdict(), before.view._asdict(), after.view._asdict()
    for name, part in parts.items():
        if isinstance(part, dict):
            for key in part.keys() | one[name].keys() | two[name].keys():
                either = (one[name].get(key), two[name].get(key), *([""] if name == "drivers" else []))
                _require(f"{name} {key}", part.get(key) in either)
        elif name != "offline":
            either, sure = one[name] | two[name], one[name] & two[name]
            _require(f"{name} {part}", sure <= part <= either)


def _require(what: object, holds: bool) -> None:
    if not holds:
        raise LostError(str(what))


def main() -> int:
    """The command: all there is."""
    table, lost = Table(), list[str]()
    for verb, cell in pairs():
        explored = explore(verb, cell, list)
        table.add(verb.name, str(cell), explored.tried)
        lost += explored.lost
    print("\n".join([*lost, *table.lines()]))
    print(f"{table.total} crash points tried, {table.total - len(lost)} recovered")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

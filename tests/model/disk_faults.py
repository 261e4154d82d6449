# SPDX-License-Identifier: Apache-2.0
"""A verb struck at one of its file operations, one reconcile by another process, and what must be true then.

    PYTHONPATH=tests python3 -m model.disk_faults

strikes every verb at every operation on a file with every errno and with death, and prints the table.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.engine.reconcile import reconcile_host
from apvfio.model.errors import ApvfioError, FileError
from disk_host import KILL, SHORT, DiskMachine, Operation, Strike, strikes_at
from memory_host import Killed
from model.befores import Cell
from model.clock import Clock
from model.figures import Table
from model.recovery import Explored, LostError, pairs
from model.verbs import PARTS
from model.views import State, difference, disagreements, promises, still_pending, view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from memory_host import Machine
    from model.verbs import Verb

    Choice = Callable[[list[Strike]], Iterable[Strike]]

_STARTS = ("acquire", "hook: prepare")


def cases() -> Iterator[tuple[Verb, Cell]]:
    """Every verb on one kind of host for each mechanism: files are the same on all of them."""
    seen = set()
    for verb, cell in pairs():
        if (verb.name, cell.mode) not in seen:
            seen.add((verb.name, cell.mode))
            yield verb, cell


def explore(verb: Verb, cell: Cell, choice: Choice) -> Explored:
    """Strike ``verb`` on a host of that kind with the ``choice`` of all that can happen to its files."""
    with Clock().running():
        return _explore(verb, cell, choice)


def _explore(verb: Verb, cell: Cell, choice: Choice) -> Explored:
    start = cell.machine()
    verb.before(start)
    wanted = start.twin()
    verb.run(wanted)
    aims = [_reconciled(start.twin()), _reconciled(wanted.twin())]
    if verb.between:
        between = start.twin()
        verb.between(between)
        aims.append(_reconciled(between))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        done = _done(verb, DiskMachine(start, _directory(place)))
        strikes = [strike for n, operation in enumerate(done, 1) for strike in strikes_at(n, operation)]
        tried, lost = 0, []
        for strike in choice(strikes):
            tried += 1
            machine = DiskMachine(start, _directory(place))
            try:
                _strike(verb, machine, strike, aims)
            except (AssertionError, ApvfioError, OSError) as error:
                told = strike.told(done[strike.n - 1])
                lost.append(f"{verb.name} on {cell}, {told}: {type(error).__name__}: {error}")
    return Explored(tried, lost)


def _directory(place: str) -> Path:
    return Path(tempfile.mkdtemp(dir=place))


def _done(verb: Verb, machine: DiskMachine) -> list[Operation]:
    with machine.disk.process():
        verb.run(machine)
    return machine.disk.done


def _strike(verb: Verb, machine: DiskMachine, strike: Strike, aims: list[State]) -> None:
    error: ApvfioError | None = None
    with machine.disk.process(strike):
        try:
            verb.run(machine)
        except ApvfioError as caught:
            error = caught
        except Killed:
            _require("somebody died though nobody was killed", strike.errno == KILL)
        else:
            _require("a dead process said that all was well", strike.errno != KILL)
    _require(f"a short write failed: {error}", strike.errno != SHORT or error is None)
    if isinstance(error, FileError):
        _require(f"{error} does not name the file", machine.disk.root in error.sentence)
        _require(f"{error} has no remedy", error.remedy)
    found = _reconciled(machine.process())
    _require(shared := disagreements(machine), not shared)
    _require(pending := still_pending(machine), not pending)
    again = reconcile_host(machine.process())
    _require(again.steps, not again.steps and _state(machine) == found)
    # Nobody tidies up who is dead, or can remove nothing any more.
    helpless = strike.errno == KILL or strike.lasting
    ends = (".new",) if not helpless else ()
    left = [path for path in machine.disk.texts() if path.endswith(ends)]
    _require(f"there is left {left}", not left)
    if verb.promise == PARTS and not (verb.undoes and strike.errno != KILL):
        verb.run(machine.process())
        _require(difference(_state(machine), aims[1]), _state(machine).view == aims[1].view)
        return
    _require(difference(found, aims[1]), found in aims)
    if error and verb.name.startswith(_STARTS):
        kept = list(found.promises.leases - aims[0].promises.leases)
        _require(f"{error} and yet {kept}", not kept)
    if error is None and strike.errno != KILL:
        _require(difference(found, aims[1]), found == aims[1])


def _reconciled(machine: Machine) -> State:
    reconcile_host(machine)
    return _state(machine)


def _state(machine: Machine) -> State:
    return State(view(machine), promises(machine.ledger))


def _require(what: object, holds: object) -> None:
    if not holds:
        raise LostError(str(what))


def some(strikes: list[Strike]) -> Iterator[Strike]:
    """A share of ``strikes``: at each operation another one."""
    by_operation: dict[int, list[Strike]] = {}
    for strike in strikes:
        by_operation.setdefault(strike.n, []).append(strike)
    for n, each in by_operation.items():
        yield each[n % len(each)]


def main(words: list[str]) -> int:
    """The command: all there is, or what the verbs named do."""
    table, lost = Table(), list[str]()
    for verb, cell in cases():
        if words and verb.name not in words:
            continue
        explored = explore(verb, cell, list)
        table.add(verb.name, cell.mode, explored.tried)
        lost += explored.lost
        for line in explored.lost:
            print(line, flush=True)
    print("\n".join(table.lines()))
    print(f"{table.total} faults at file operations tried, {table.total - len(lost)} recovered")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

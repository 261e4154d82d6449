# SPDX-License-Identifier: Apache-2.0
"""How a guest's start and stop grow: with other guests' leases, the audit log and the queues of the host."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.events import audit_log
from apvfio.events.event import Event, to_line
from apvfio.model.host import AP_MDEVS, MaskBits
from apvfio.model.ids import IdSet
from apvfio.model.ledger import BY_ADAPTERS, HELD, Lease, Ledger
from apvfio.model.matrix import Apqn, Matrix
from apvfio.store import ledger_file
from apvfio.store.system import RealSystem
from benchmarks.annotated import hook_calls
from benchmarks.goals import measured
from benchmarks.invented import request
from benchmarks.measure import Cost, Pair, process, turns
from benchmarks.plain_host import plain_host
from lab.guest import guest_uuid, guest_xml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.goals import Goal
    from benchmarks.plain_host import PlainHost

_COUNTS = (10, 100, 1_000, 10_000)
_FEW = range(2), range(16)
_FULL = range(16), range(85)
_FIRST = 100
"""The first adapter of the other guests, which the host lacks: no host has queues for 10,000."""
_NAME, _MDEV = "db1", "0a0b0c0d-1111-4111-8111-111111111111"
_MATRIX = Matrix(IdSet([1]), IdSet([2]))
_XML = guest_xml(_NAME, _MATRIX, _MDEV).encode()
_FILES, _SIZE = 6, 60_000_000
_ROUNDS = 5
"""One round beside 10,000 leases takes seconds: a few tell as much."""


def goals(rounds: int) -> Iterator[Goal]:
    """CPU time of one start and of one stop, each host beside the next smaller one."""
    yield from _leases(min(rounds, _ROUNDS))
    yield from _log_and_queues(rounds)


def _leases(rounds: int) -> Iterator[Goal]:
    with ExitStack() as stack:
        hosts = [stack.enter_context(_crowded(count)) for count in _COUNTS]
        found = turns([lambda host=host: _start_and_stop(host) for host in hosts], rounds)  # type: ignore[misc]
    for half, what in enumerate(("start", "stop")):
        for (few, many), costs in zip(zip(_COUNTS, _COUNTS[1:]), zip(found, found[1:])):
            yield measured(f"{what} beside {many:,} leases", f"beside {few:,}", _pair(*costs, half), 12)


def _log_and_queues(rounds: int) -> Iterator[Goal]:
    with _crowded(0) as host, plain_host(*_FULL, [_MDEV]) as full:
        log = host.root / "log"
        _write_log(log)

        def with_the_log() -> tuple[Cost, Cost]:
            with _placed(log, host.root):
                return _start_and_stop(host)

        works = [lambda: _start_and_stop(host), with_the_log, lambda: _start_and_stop(full)]
        plain, logged, many = turns(works, rounds)
    for half, what in enumerate(("start", "stop")):
        log_text = f"{what} with an audit log of {_FILES} files of {_SIZE // 1_000_000} MB"
        yield measured(log_text, "with one that is just begun", _pair(plain, logged, half), 1.5)
    for half, what in enumerate(("start", "stop")):
        yield measured(f"{what} on 16 x 85 queues", "on 2 x 16", _pair(plain, many, half))


def _pair(few: Sequence[tuple[Cost, Cost]], many: Sequence[tuple[Cost, Cost]], half: int) -> Pair:
    return Pair([costs[half].cpu for costs in many], [costs[half].cpu for costs in few])


def _start_and_stop(host: PlainHost) -> tuple[Cost, Cost]:
    device = host.sys / AP_MDEVS.device(_MDEV)
    begin, end = hook_calls(host, _NAME, _XML)
    start = process(begin.argv, begin.xml, host.env)
    assert device.exists()
    stop = process(end.argv, end.xml, host.env)
    assert not device.exists()
    return start, stop


@contextmanager
def _crowded(count: int) -> Iterator[PlainHost]:
    """A host with so many guests that run, one queue each."""
    queues = [Apqn(_FIRST + number // 200, number % 200) for number in range(count)]
    taken = IdSet(queue.adapter for queue in queues)
    leases = {}
    for number, queue in enumerate(queues):
        asked = request(number, Matrix(IdSet([queue.adapter]), IdSet([queue.domain])))
        leases[asked.mdev] = Lease(
            asked.guest, asked.guest_uuid, asked.mdev, asked.matrix, BY_ADAPTERS, HELD, created=True, since=1
        )
    with plain_host(*_FEW, [_MDEV], taken) as host:
        host.add_devices({mdev: lease.matrix for mdev, lease in leases.items()})
        system = RealSystem(str(host.root))
        ledger_file.save(system.files, Ledger(system.boot_id, leases, MaskBits(taken)))
        yield host


def _write_log(path: Path) -> None:
    event = Event(1.0, "started", "b", _NAME, guest_uuid(_NAME), _MDEV, _MATRIX)
    line = to_line(event)
    path.write_text(line * (_SIZE // len(line)), encoding="ascii")
    path.chmod(0o600)


@contextmanager
def _placed(log: Path, root: Path) -> Iterator[None]:
    """The six files in place of the host's audit log."""
    newest = root / audit_log.AUDIT_LOG
    shutil.rmtree(newest.parent)
    newest.parent.mkdir(mode=0o700)
    for number in range(_FILES):
        os.link(log, f"{newest}.{number}" if number else newest)
    yield
    assert log.stat().st_size > _SIZE - 1000
    assert newest.stat().st_size < 1 << 20

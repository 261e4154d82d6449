# SPDX-License-Identifier: Apache-2.0
"""How a guest's start and stop grow with the leases of other guests and with the length of the audit log."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events import audit_log
from apvfio.events.event import Event, to_line
from apvfio.model.host import MaskBits
from apvfio.model.ids import IdSet
from apvfio.model.ledger import BY_ADAPTERS, HELD, Lease, Ledger
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from apvfio.sim.state import Mdev
from apvfio.store import ledger_file
from apvfio.store.files import RealFiles
from benchmarks.goals import measured
from benchmarks.invented import request
from benchmarks.measure import side_by_side, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.goals import Goal

_COUNTS = (100, 1_000, 10_000)
_FIRST = 100
"""The first adapter of the other guests; the one that is started has a queue of adapter 1."""
_GUEST = request(60_000, Matrix(IdSet([1]), IdSet([2])))
_FILES, _SIZE = 6, 60_000_000


def goals(rounds: int) -> Iterator[Goal]:
    """Ten times the leases, and an audit log of six large files beside none."""
    with tempfile.TemporaryDirectory(prefix="apvfio-growth-") as directory:
        hosts = {count: _crowded(Path(directory, str(count)), count) for count in _COUNTS}
        for few, many in zip(_COUNTS, _COUNTS[1:]):
            for what, work in (("start", _start), ("stop", _stop)):
                # One round beside 10,000 takes seconds: a few tell as much.
                pair = side_by_side(partial(work, hosts[many]), partial(work, hosts[few]), min(rounds, 5))
                yield measured(f"{what} beside {many:,} leases", f"beside {few:,}", pair, 12)
        host, log = hosts[_COUNTS[0]], Path(directory, "log")
        _write_log(log)

        def with_the_log() -> float:
            with _placed(log, Path(directory, str(_COUNTS[0]))):
                return _start(host)

        pair = side_by_side(with_the_log, lambda: _start(host), rounds)
        what = f"start with an audit log of {_FILES} files of {_SIZE // 1_000_000} MB"
        yield measured(what, "with one that is just begun", pair, 1.5)


def _crowded(directory: Path, count: int) -> SimSystem:
    """A host with so many guests, one queue each, whose files are on the disk."""
    queues = [Apqn(_FIRST + number // 200, number % 200) for number in range(count)]
    taken = IdSet(queue.adapter for queue in queues)
    # Their adapters are absent, as the policy may allow: no host has so many queues to simulate.
    system = SimSystem.new(SimKernel.new(adapters={0: "cca", 1: "cca"}, domains=IdSet(range(16))))
    leases = {}
    for number, queue in enumerate(queues):
        asked = request(number, Matrix(IdSet([queue.adapter]), IdSet([queue.domain])))
        leases[asked.mdev] = Lease(
            asked.guest, asked.guest_uuid, asked.mdev, asked.matrix, BY_ADAPTERS, HELD, created=True, since=1
        )
        system.kernel.state.mdevs[asked.mdev] = Mdev(number, asked.matrix)
    system.kernel.state.apmask -= taken
    (directory / "run/apvfio").mkdir(mode=0o700, parents=True)
    system.files = RealFiles(str(directory))
    ledger_file.save(system.files, Ledger(system.boot_id, leases, MaskBits(taken)))
    return system


def _start(system: SimSystem) -> float:
    seconds = timed(lambda: start_guest(system, _GUEST))
    release_guest(system, _GUEST.guest_uuid)
    return seconds


def _stop(system: SimSystem) -> float:
    start_guest(system, _GUEST)
    return timed(lambda: release_guest(system, _GUEST.guest_uuid))


def _write_log(path: Path) -> None:
    event = Event(1.0, "started", "b", _GUEST.guest, _GUEST.guest_uuid, _GUEST.mdev, _GUEST.matrix)
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

# SPDX-License-Identifier: Apache-2.0
"""The snapshot of a full host beside reading the same files and nothing else; what one start reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from apvfio.engine.start import start_guest
from apvfio.kernel.snapshot import read_host
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from benchmarks import invented
from benchmarks.counting import Counted, machine
from benchmarks.goals import counted, measured
from benchmarks.measure import side_by_side, timed
from benchmarks.plain_host import plain_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.goals import Goal

_FULL = range(16), range(85)
_SMALL = range(2), range(2)
_OF_QUEUES = ("online", "load", "requestq_count", "pendingq_count")
_WISH = Matrix(IdSet([0, 1]), IdSet([0]))


def goals(rounds: int) -> Iterator[Goal]:
    """The snapshot of 16 x 85 queues."""
    with plain_host(*_FULL, []) as host:
        sysfs = RealSysfs(str(host.root))
        seam = Counted(sysfs)
        read_host(seam)
        same = [_WAYS[what](f"{host.sys}/{path}") for what, path in seam.reads]

        def cat() -> None:
            for call in same:
                call()

        pair = side_by_side(lambda: timed(lambda: read_host(sysfs)), lambda: timed(cat), rounds)
        note = f"{len(same)} files and directories"
        yield measured(
            "snapshot of 16 x 85 queues", "reading the same, nothing done with it", pair, 1.5, note
        )
    # A kernel that has no overrides: 7.x is asked for each queue's, but only while its masks are full.
    full, small = (_reads("6.12", *side) for side in (_FULL, _SMALL))
    yield counted(
        "reads of one start on 16 x 85 queues, but for those that go, Linux 6.12",
        "on 2 x 2",
        full,
        small,
        bound=1,
    )


def _reads(profile: str, adapters: range, domains: range) -> int:
    system, seam = machine(profile, adapters, IdSet(domains))
    request = invented.request(1, _WISH)
    start_guest(system, request)
    # More queues go unasked from a large host, and each is asked whether it is offline, and whether it works.
    return sum(path.rpartition("/")[2] not in _OF_QUEUES for _, path in seam.reads)


def _read(path: str) -> Callable[[], object]:
    def read() -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while piece := os.read(fd, 1 << 13):
                data += piece
            return data
        finally:
            os.close(fd)

    return read


_WAYS: dict[str, Callable[[str], Callable[[], object]]] = {
    "read": _read,
    "list": lambda path: lambda: os.listdir(path),
    "exists": lambda path: lambda: os.path.lexists(path),
}

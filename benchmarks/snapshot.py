# SPDX-License-Identifier: Apache-2.0
"""The snapshot of a full host beside reading the same files and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from apvfio.host import read_host
from apvfio.sysfs import RealSysfs
from benchmarks.goals import Goal, measured
from benchmarks.measure import side_by_side, timed
from benchmarks.mounted import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Recorded(RealSysfs):
    """The seam, and every call to it."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.calls: list[tuple[str, str]] = []

    def read(self, path: str) -> str:
        self.calls.append(("read", path))
        return super().read(path)

    def list(self, path: str) -> list[str]:
        self.calls.append(("list", path))
        return super().list(path)

    def exists(self, path: str) -> bool:
        self.calls.append(("exists", path))
        return super().exists(path)


def goals(rounds: int) -> Iterator[Goal]:
    """The snapshot of 16 x 85 queues."""
    with mounted(range(16), range(85)) as host:
        recorded = Recorded(host.root)
        read_host(recorded)
        same = [_WAYS[what](f"{host.root}/sys/{path}") for what, path in recorded.calls]

        def cat() -> None:
            for call in same:
                call()

        sysfs = RealSysfs(host.root)
        pair = side_by_side(lambda: timed(lambda: read_host(sysfs)), lambda: timed(cat), rounds)
        note = f"{len(same)} files and directories"
        yield measured(
            "snapshot of 16 x 85 queues", "reading the same, nothing done with it", pair, 1.5, note
        )


def _read(path: str) -> Callable[[], object]:
    def read() -> bytes:
        with open(path, "rb", buffering=0) as file:
            return file.read()

    return read


_WAYS: dict[str, Callable[[str], Callable[[], object]]] = {
    "read": _read,
    "list": lambda path: lambda: os.listdir(path),
    "exists": lambda path: lambda: os.path.lexists(path),
}

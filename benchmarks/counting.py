# SPDX-License-Identifier: Apache-2.0
"""A simulated machine in this process that counts what is read from its kernel and written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.host import AP_MDEVS
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.kernel.seam import Sysfs
    from apvfio.model.ids import IdSet


class Counted:
    """A seam to a kernel, and every call to it: what it does, and where."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self.reads: list[tuple[str, str]] = []
        self.writes: list[str] = []

    def read(self, path: str) -> str:
        self.reads.append(("read", path))
        return self._sysfs.read(path)

    def write(self, path: str, text: str) -> None:
        self.writes.append(path)
        self._sysfs.write(path, text)

    def list(self, path: str) -> list[str]:
        self.reads.append(("list", path))
        return self._sysfs.list(path)

    def readlink(self, path: str) -> str:
        self.reads.append(("readlink", path))
        return self._sysfs.readlink(path)

    def exists(self, path: str) -> bool:
        self.reads.append(("exists", path))
        return self._sysfs.exists(path)

    def clear(self) -> None:
        """Forget what was counted."""
        self.reads.clear()
        self.writes.clear()


def machine(profile: str, adapters: Iterable[int], domains: IdSet) -> tuple[SimSystem, Counted]:
    """A host, and what counts the calls to it."""
    kernel = SimKernel.new(profile, adapters=dict.fromkeys(adapters, "cca"), domains=domains)
    system = SimSystem.new(kernel)
    seam = Counted(system.sysfs)
    system.sysfs = seam
    return system, seam


def devices(system: SimSystem) -> int:
    """How many mediated devices there are."""
    return len(system.sysfs.list(AP_MDEVS.devices))

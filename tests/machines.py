# SPDX-License-Identifier: Apache-2.0
"""A simulated host in memory, whose writes can be made to fail."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from apvfio.host import Host, read_host
from apvfio.ledger import LEDGER, Ledger, load
from apvfio.sim.kernel import SimKernel
from hosts import BOOT, IBM_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable

IBM_ADAPTERS = {0: "accel", 1: "cca", 10: "ep11"}


class Killed(BaseException):
    """The process ended here: nothing that catches errors may see it."""


class Faults:
    """Counts writes, and does something before the n-th."""

    def __init__(self) -> None:
        self.count = 0
        self.at = 0
        self.what: Callable[[], None] = lambda: None

    def arm(self, at: int, what: Callable[[], None]) -> None:
        """Call ``what`` before write number ``at``, counted from now."""
        self.count, self.at, self.what = 0, at, what

    def step(self) -> None:
        """A write is about to happen."""
        self.count += 1
        if self.count == self.at:
            self.what()


class FaultySysfs:
    """A kernel's sysfs that counts its writes."""

    def __init__(self, kernel: SimKernel, faults: Faults) -> None:
        self._kernel = kernel
        self._faults = faults
        self.written: list[tuple[str, str]] = []
        self.read = kernel.read
        self.list = kernel.list
        self.readlink = kernel.readlink
        self.exists = kernel.exists

    def write(self, path: str, text: str) -> None:
        self._faults.step()
        self._kernel.write(path, text)
        self.written.append((path, text))


class FaultyFiles:
    """Files in a dictionary that count their writes."""

    def __init__(self, faults: Faults) -> None:
        self.texts: dict[str, str] = {}
        self._faults = faults

    def read(self, path: str) -> str | None:
        return self.texts.get(path)

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        assert mode in (0o600, 0o644)
        self._faults.step()
        self.texts[path] = text

    def remove(self, path: str) -> None:
        self.texts.pop(path, None)

    def list(self, path: str) -> list[str]:
        return sorted(p.removeprefix(f"{path}/") for p in self.texts if p.startswith(f"{path}/"))


class Machine:
    """A simulated host in memory: IBM's example, unless a kernel is given."""

    def __init__(self, kernel: SimKernel | None = None) -> None:
        self.kernel = kernel or SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS)
        self.faults = Faults()
        self.sysfs = FaultySysfs(self.kernel, self.faults)
        self.files = FaultyFiles(self.faults)
        self.boot_id = BOOT

    def lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    def host(self) -> Host:
        """The host as it is now."""
        return read_host(self.kernel)

    @property
    def ledger(self) -> Ledger:
        """The ledger as it is now."""
        return load(self.files, self.boot_id)

    def snapshot(self) -> tuple[object, str | None]:
        """Everything, to be compared byte for byte."""
        return self.kernel.to_json(), self.files.texts.get(LEDGER)

# SPDX-License-Identifier: Apache-2.0
"""A simulated host in memory, whose writes can be made to fail."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from apvfio.kernel.snapshot import read_host
from apvfio.model.host import Host
from apvfio.model.ledger import Ledger
from apvfio.model.process import Process
from apvfio.sim.kernel import SimKernel
from apvfio.sim.processes import Processes
from apvfio.store.ledger_file import LEDGER, load
from hosts import BOOT, IBM_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IBM_ADAPTERS = {0: "accel", 1: "cca", 10: "ep11"}


class Killed(BaseException):
    """The process ended here: nothing that catches errors may see it."""


class Faults:
    """Counts writes, to the kernel and to files, and does something before or after the n-th."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        """What was written since `arm`, files with a / in front."""
        self.at = 0
        self.late = False
        self.what: Callable[[], None] = lambda: None
        self.dead = False
        """Whether the process has ended: it writes no more, whatever it has in mind for such a case."""

    @property
    def count(self) -> int:
        """How many writes were begun since `arm`."""
        return len(self.paths)

    def arm(self, at: int, what: Callable[[], None], *, late: bool = False) -> None:
        """Call ``what`` before write number ``at``, counted from now; ``late``: when it has taken effect."""
        self.paths, self.at, self.what, self.late = [], at, what, late

    @contextmanager
    def writing(self, path: str) -> Iterator[None]:
        """Around the write to ``path``."""
        if self.dead:
            raise Killed
        self.paths.append(path)
        mine = self.count == self.at
        if mine and not self.late:
            self.what()
        yield
        if mine and self.late:
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
        with self._faults.writing(path):
            self._kernel.write(path, text)
        self.written.append((path, text))


class FaultyFiles:
    """Files in a dictionary that count their writes; what is appended to the audit log is not counted."""

    def __init__(self, faults: Faults, disk: FaultyFiles | None = None) -> None:
        self.texts: dict[str, str] = disk.texts if disk else {}
        self.directories: set[str] = disk.directories if disk else {"run/apvfio"}
        """Those in which `create` makes files; `write` makes its own."""
        self._faults = faults

    def read(self, path: str) -> str | None:
        return self.texts.get(path)

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        assert mode in (0o600, 0o644)
        with self._faults.writing(f"/{path}"):
            self.texts[path] = text

    def create(self, path: str) -> bool:
        there = path.rpartition("/")[0] in self.directories
        if there:
            with self._faults.writing(f"/{path}"):
                self.texts.setdefault(path, "")
        return there

    def append(self, path: str, text: str) -> None:
        self.texts[path] = self.texts.get(path, "") + text

    def end(self, path: str) -> str:
        return self.texts.get(path, "")

    def size(self, path: str) -> int:
        return len(self.texts.get(path, ""))

    def rename(self, path: str, new: str) -> None:
        if path in self.texts:
            self.texts[new] = self.texts.pop(path)

    def remove(self, path: str) -> None:
        if path in self.texts:
            with self._faults.writing(f"/{path}"):
                del self.texts[path]

    def list(self, path: str) -> list[str]:
        below = (
            p.removeprefix(f"{path}/") for p in [*self.texts, *self.directories] if p.startswith(f"{path}/")
        )
        return sorted({name.partition("/")[0] for name in below})


class Machine:
    """A simulated host in memory: IBM's example, unless a kernel is given."""

    def __init__(self, kernel: SimKernel | None = None) -> None:
        self.kernel = kernel or SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS)
        self.faults = Faults()
        self.sysfs = FaultySysfs(self.kernel, self.faults)
        self.files = FaultyFiles(self.faults)
        self.boot_id = BOOT
        self.processes: Processes | None = None
        """Those of guests and of whoever opens a device, where they are known."""
        self.dead: set[int] = set()
        """The pids of the processes that have ended, where they are not known."""

    @property
    def running(self) -> set[str] | None:
        """The uuids of the guests that run, where that is known; set, it says that they run and no others."""
        return None if self.processes is None else set(self.processes.running_guests())

    @running.setter
    def running(self, guests: set[str] | None) -> None:
        self.processes = None if guests is None else Processes(self.kernel)
        for guest in sorted(guests or ()):
            assert self.processes
            self.processes.start(guest)

    @property
    def knows_processes(self) -> bool:
        return self.processes is not None

    def running_guests(self) -> dict[str, Process] | None:
        return None if self.processes is None else self.processes.running_guests()

    def opener(self, mdev: str) -> Process | None:
        return None if self.processes is None else self.processes.opener(mdev)

    def lives(self, process: Process) -> bool:
        return process.pid not in self.dead if self.processes is None else self.processes.lives(process)

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

    def process(self) -> Machine:
        """The same host as another process finds it: nothing of this one's is left but the host."""
        another = copy(self)
        another.faults = Faults()
        another.sysfs = FaultySysfs(self.kernel, another.faults)
        another.files = FaultyFiles(another.faults, self.files)
        return another

    def twin(self) -> Machine:
        """Another host that is just as this one is now; nobody waits there."""
        twin = Machine(SimKernel(copied(self.kernel.state)))
        twin.files.texts.update(self.files.texts)
        twin.files.directories.update(self.files.directories)
        twin.boot_id = self.boot_id
        twin.processes = processes_on(twin.kernel, self.processes)
        twin.dead = set(self.dead)
        return twin

    def snapshot(self) -> tuple[object, str | None]:
        """Everything, to be compared byte for byte."""
        return self.kernel.to_json(), self.files.texts.get(LEDGER)


def processes_on(kernel: SimKernel, processes: Processes | None) -> Processes | None:
    """The same processes on a copy of their host."""
    return processes and Processes.from_json(processes.to_json(), kernel)


def copied(value: Any) -> Any:
    """``value`` with all that can change in it copied: data classes, dictionaries and lists."""
    if is_dataclass(value):
        new = object.__new__(type(value))
        vars(new).update({name: copied(part) for name, part in vars(value).items()})
        return new
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list) else value

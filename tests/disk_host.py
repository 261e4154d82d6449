# SPDX-License-Identifier: Apache-2.0
"""A simulated host whose files are real ones in a directory, and every operation on them can be made to fail.

The kernel is simulated; files, tickets and both locks are what a real host has. What is struck is the
operating system's call below them, so nothing of apvfio is replaced.
"""

from __future__ import annotations

import errno as errnos
import fcntl
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from copy import copy
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from apvfio.sim.kernel import SimKernel
from apvfio.store.files import RealFiles
from apvfio.store.locks import Patience, holding_locks
from memory_host import FaultySysfs, Killed, Machine, copied, processes_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_BY_PATH = ("open", "unlink", "rename", "replace", "link", "mkdir", "listdir")
_BY_FD = ("read", "write", "pwrite", "pread", "fsync", "fchmod", "fstat")
_LOCK_WAIT = 5.0

KILL = 0
"""Stands for the end of the process where an errno would stand."""
SHORT = -1
"""Stands for a write that takes a part and does not fail."""


class Operation(NamedTuple):
    """One call of the operating system on one of the host's files."""

    name: str
    path: str
    """Below the host's root."""
    makes: bool = False
    """Whether it opens a file that it may have to make."""

    def __str__(self) -> str:
        return f"{self.name} {self.path}"


class Strike(NamedTuple):
    """What happens at an operation."""

    n: int
    """Which one, counted from 1."""
    errno: int
    """`KILL`, `SHORT`, or the errno it fails with."""
    late: bool = False
    """A death: when the operation has taken effect. A failing write: when it has taken a part."""
    lasting: bool = False
    """Whether all that could fail so fails so from there on: a disk does not become less full by itself."""

    def told(self, operation: Operation) -> str:
        """For a person."""
        name = {KILL: "kill", SHORT: "short"}.get(self.errno) or errnos.errorcode[self.errno]
        when = " after" if self.late else ""
        return f"{name}{when} at {self.n}, {operation}{' and from there on' if self.lasting else ''}"


class Disk:
    """The directory that stands for a host's root, with one process at a time that works on it."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self.done: list[Operation] = []
        """What the process has done so far, the struck operation included."""
        self.dead = False
        """Whether the process has ended: nothing of it works any more, not even what tidies up."""
        self._strike: Strike | None = None
        self._open: dict[int, str] = {}
        self._real = {name: getattr(os, name) for name in (*_BY_PATH, *_BY_FD, "close", "getpid")}
        self._flock = fcntl.flock
        self._pid = _ended_pid()

    @contextmanager
    def process(self, strike: Strike | None = None) -> Iterator[None]:
        """A process that may be struck; its end closes what it has open, as the kernel does."""
        self.done, self.dead, self._strike = [], False, strike
        with ExitStack() as stack:
            put = partial(mock.patch.object, os)
            for name in (*_BY_PATH, *_BY_FD):
                stack.enter_context(put(name, partial(self._called, name)))
            stack.enter_context(put("close", self._close))
            # It is dead when somebody looks, and its lock then one that was left.
            stack.enter_context(put("getpid", lambda: self._pid))
            stack.enter_context(mock.patch.object(fcntl, "flock", self._lock))
            try:
                yield
            finally:
                for fd in list(self._open):
                    self._real["close"](fd)
                self._open.clear()
                self.dead = False

    def texts(self) -> dict[str, str]:
        """All files, by their paths below the root."""
        found = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(directory, name)
                with open(path, encoding="utf-8", errors="replace") as file:
                    found[os.path.relpath(path, self.root)] = file.read()
        return found

    def _called(self, name: str, first: Any, *rest: Any, **named: Any) -> Any:
        path = self._path(first)
        if path is None:
            return self._real[name](first, *rest, **named)
        makes = name == "open" and bool(rest[0] & os.O_CREAT)
        return self._struck(
            Operation(name, path, makes), lambda: self._do(name, path, first, *rest, **named), (first, *rest)
        )

    def _do(self, name: str, path: str, *words: Any, **named: Any) -> Any:
        value = self._real[name](*words, **named)
        if name == "open":
            self._open[value] = path
        return value

    def _lock(self, fd: int, how: int) -> None:
        if fd in self._open:
            self._struck(Operation("flock", self._open[fd]), lambda: self._flock(fd, how), ())
        else:
            self._flock(fd, how)

    def _close(self, fd: int) -> None:
        if self.dead and fd in self._open:
            raise Killed
        self._open.pop(fd, None)
        self._real["close"](fd)

    def _path(self, first: Any) -> str | None:
        path = self._open.get(first) if isinstance(first, int) else os.fspath(first)
        if isinstance(path, str) and (path == self.root or path.startswith(f"{self.root}/")):
            return os.path.relpath(path, self.root)
        return path if isinstance(first, int) else None

    def _struck(self, operation: Operation, call: Callable[[], Any], words: tuple[Any, ...]) -> Any:
        if self.dead:
            raise Killed
        self.done.append(operation)
        strike = self._strike
        if strike is None or not self._is_hit(strike, operation):
            return call()
        if strike.errno == KILL:
            with suppress(OSError):
                if strike.late:
                    call()
            self.dead = True
            raise Killed
        if operation.name in ("write", "pwrite") and (strike.late or strike.errno == SHORT):
            fd, data, *where = words
            taken: int = self._real[operation.name](fd, data[: max(1, len(data) // 2)], *where)
            if strike.errno == SHORT:
                return taken
        raise OSError(strike.errno, os.strerror(strike.errno), operation.path)

    def _is_hit(self, strike: Strike, operation: Operation) -> bool:
        n = len(self.done)
        return n == strike.n or (strike.lasting and n > strike.n and strike.errno in errnos_of(operation))


def errnos_of(operation: Operation) -> tuple[int, ...]:
    """The errnos with which an operating system refuses ``operation``, one of each sort."""
    # Making and renaming take space, removing does not.
    changing = (errnos.ENOSPC, errnos.EROFS, errnos.EACCES, errnos.EIO)
    return {
        "open": (errnos.EMFILE, *changing) if operation.makes else (errnos.EMFILE, errnos.EACCES, errnos.EIO),
        "read": (errnos.EIO,),
        "pread": (errnos.EIO,),
        "fstat": (errnos.EIO,),
        "listdir": (errnos.EMFILE, errnos.EACCES, errnos.EIO),
        "write": (errnos.ENOSPC, errnos.EIO),
        "pwrite": (errnos.ENOSPC, errnos.EIO),
        "unlink": changing[1:],
        "fsync": (errnos.ENOSPC, errnos.EIO),
        "fchmod": (errnos.EROFS, errnos.EIO),
        "flock": (errnos.ENOLCK,),
    }.get(operation.name, changing)


def strikes_at(n: int, operation: Operation) -> Iterator[Strike]:
    """All that can happen at operation number ``n``."""
    yield Strike(n, KILL)
    yield Strike(n, KILL, late=True)
    for errno in errnos_of(operation):
        yield Strike(n, errno)
    if operation.name in ("write", "pwrite"):
        yield Strike(n, SHORT)
        yield Strike(n, errnos.ENOSPC, late=True)
    for errno in (errnos.ENOSPC, errnos.EROFS, errnos.EMFILE):
        if errno in errnos_of(operation):
            yield Strike(n, errno, lasting=True)


class DiskMachine(Machine):
    """A host just like ``machine``, with its files in a directory."""

    def __init__(self, machine: Machine, root: Path) -> None:
        super().__init__(SimKernel(copied(machine.kernel.state)))
        self.disk = Disk(root)
        self.sysfs = _MortalSysfs(self)
        for path, text in machine.files.texts.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.write_text(text)
            target.chmod(0o600)
        self.files = _DiskFiles(self.disk)  # type: ignore[assignment]
        self.processes = processes_on(self.kernel, machine.processes)
        self.dead = set(machine.dead)

    def lock(self) -> AbstractContextManager[None]:
        return holding_locks(self.disk.root, Patience(_LOCK_WAIT))

    def process(self) -> DiskMachine:
        another = copy(self)
        another.sysfs = _MortalSysfs(another)
        return another


class _MortalSysfs(FaultySysfs):
    """A kernel's sysfs to which a dead process writes no more."""

    def __init__(self, machine: DiskMachine) -> None:
        super().__init__(machine.kernel, machine.faults)
        self._disk = machine.disk

    def write(self, path: str, text: str) -> None:
        if self._disk.dead:
            raise Killed
        super().write(path, text)


class _DiskFiles(RealFiles):
    """The files of a host in a directory."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.root)
        self._disk = disk

    @property
    def texts(self) -> dict[str, str]:
        """All of them, whoever may read them; not those that never got their names."""
        return {path: text for path, text in self._disk.texts().items() if not path.endswith(".new")}

    @property
    def directories(self) -> set[str]:
        """None is made beforehand."""
        return set()


@cache
def _ended_pid() -> int:
    """The pid of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid

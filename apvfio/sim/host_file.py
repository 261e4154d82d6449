# SPDX-License-Identifier: Apache-2.0
"""A simulated host in one file: its kernel, its files, its boot.

The file is locked while a process works on the host, and replaced as a whole after a change, also if the work
ended with an error: the simulated kernel keeps what was done to it.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import time
import uuid
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from apvfio.mdev.callouts import SCRIPTS
from apvfio.model.errors import ApvfioError, HostError, RequestError
from apvfio.sim.files import FileTree, SimFiles
from apvfio.sim.kernel import SimKernel
from apvfio.sim.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from apvfio.kernel.seam import Files, Sysfs
    from apvfio.model.process import Process
    from apvfio.sim.files import Entry

FORMAT = "apvfio-sim"
VERSION = 1
WAIT = 10.0
"""Seconds to wait for another process that has the file."""
_NAP = 0.02
_SIZE_LIMIT = 64 << 20
_SKELETON: dict[str, Entry] = {
    "etc/apvfio/": "",
    # mdevctl refuses to run without these (1.2 wants the former, 1.3 the latter).
    **{f"{scripts}/{kind}/": "" for scripts in SCRIPTS for kind in ("callouts", "notifiers")},
    "run/apvfio/": {"mode": "0700"},
    "run/lock/": "",
}
"""The files of every new simulated host."""


class SimSystem:
    """A simulated host as `apvfio.kernel.seam.System`. Its lock is that on its file, held all the while.

    ``processes`` is None as long as nobody has started a guest on it: nothing is known then of who runs.
    A copy of a real host, or a host on which only apvfio was tried, has leases but no processes, and an
    empty table would mean that all their guests have died.
    """

    def __init__(
        self, kernel: SimKernel, tree: FileTree, boot_id: str, processes: Processes | None = None
    ) -> None:
        self.kernel = kernel
        self.tree = tree
        self.boot_id = boot_id
        self.processes = processes
        self.sysfs: Sysfs = kernel
        self.files: Files = SimFiles(tree)

    @classmethod
    def new(cls, kernel: SimKernel, files: Mapping[str, Entry] | None = None) -> SimSystem:
        """A freshly booted host with that kernel, the usual directories and ``files``."""
        tree = FileTree()
        tree.add({**_SKELETON, **(files or {})})
        return cls(kernel, tree, str(uuid.uuid4()))

    @property
    def knows_processes(self) -> bool:
        """Not those of a host that was dumped."""
        return self.processes is not None

    def running_guests(self) -> Mapping[str, Process] | None:
        """As its processes tell."""
        return self.processes.running_guests() if self.processes else None

    def opener(self, mdev: str) -> Process | None:
        """As its processes tell."""
        return self.processes.opener(mdev) if self.processes else None

    def lives(self, process: Process) -> bool:
        """As its processes tell."""
        return self.processes.lives(process) if self.processes else True

    def lock(self) -> AbstractContextManager[None]:
        """Nothing more to hold."""
        return nullcontext()

    def to_json(self) -> dict[str, Any]:
        """The host as its file holds it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "boot_id": self.boot_id,
            "kernel": self.kernel.to_json(),
            **({"processes": self.processes.to_json()} if self.processes else {}),
            "files": self.tree.to_json(),
        }

    @classmethod
    def from_json(cls, document: object) -> SimSystem:
        """The host that `to_json` wrote; RequestError says what is wrong with any other document."""
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise RequestError("it does not hold a simulated host.", remedy="Make one with 'apvfio sim new'.")
        version = document.get("version")
        if version != VERSION:
            newer = isinstance(version, int) and version > VERSION
            raise RequestError(
                f"it has version {str(version)[:20]}, and this apvfio knows version {VERSION}.",
                remedy="Update apvfio." if newer else "Make a new one with 'apvfio sim new'.",
            )
        try:
            boot_id = str(uuid.UUID(document["boot_id"]))
            kernel = SimKernel.from_json(document["kernel"])
            known = document.get("processes")
            processes = None if known is None else Processes.from_json(known, kernel)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            sentence = f"its content cannot be understood ({type(error).__name__}: {str(error)[:80]})."
            raise RequestError(sentence, remedy="Make a new one with 'apvfio sim new'.") from None
        return cls(kernel, FileTree.from_json(document.get("files", {})), boot_id, processes)


class SimFile:
    """A simulated host's file, locked, and the host in it."""

    def __init__(self, path: str, fd: int, system: SimSystem) -> None:
        self.path = path
        self.system = system
        self._fd = fd
        self._saved = ""

    @classmethod
    def load(cls, path: str) -> SimFile:
        """Lock the file and read it."""
        path = os.path.realpath(path)
        fd = _locked(path)
        try:
            file = cls(path, fd, _read(path, fd))
            file._saved = file.text()
        except BaseException:
            os.close(fd)
            raise
        return file

    def text(self) -> str:
        """The host as text, as the file shall have it."""
        return json.dumps(self.system.to_json(), indent=1) + "\n"

    def save(self, text: str | None = None) -> None:
        """Replace the file, if something changed since it was read or last saved.

        The new file is locked before it gets the name, so the lock holds without a gap.
        """
        text = self.text() if text is None else text
        if text == self._saved:
            return
        try:
            fd = _replace(self.path, self._fd, text)
        except OSError as error:
            sentence = f"{self.path} cannot be written: {error.strerror}; the last changes are lost."
            raise HostError(
                sentence, remedy="Check the permissions and the free space of its directory."
            ) from error
        os.close(self._fd)
        self._fd = fd
        self._saved = text

    def close(self) -> None:
        """Unlock the file."""
        os.close(self._fd)


@contextmanager
def open_sim_file(path: str) -> Iterator[SimFile]:
    """The simulated host's file, locked; saved at the end, whichever way that comes."""
    file = SimFile.load(path)
    try:
        try:
            yield file
        finally:
            file.save()
    finally:
        file.close()


@contextmanager
def open_sim(path: str) -> Iterator[SimSystem]:
    """The simulated host in the file ``path``, to work on; saved at the end."""
    with open_sim_file(path) as file:
        yield file.system


def create_sim(
    path: str, kernel: SimKernel, *, files: Mapping[str, Entry] | None = None, force: bool = False
) -> None:
    """Make the file of a simulated host with that kernel and ``files``; ``force`` replaces another file."""
    path = os.path.realpath(path)
    system = SimSystem.new(kernel, files)
    try:
        fd = _locked(path) if force and os.path.exists(path) else _create(path)
    except FileExistsError:
        raise RequestError(f"{path} exists.", remedy="Choose another name, or add --force.") from None
    except OSError as error:
        raise HostError(f"{path} cannot be made: {error.strerror}.", remedy="Choose another place.") from None
    file = SimFile(path, fd, system)
    try:
        file.save()
    except BaseException:
        if not os.fstat(fd).st_size:
            os.unlink(path)
        raise
    finally:
        file.close()


def _create(path: str) -> int:
    """A new empty file, locked: nobody else can take it for a host before it is one."""
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def _locked(path: str) -> int:
    deadline = time.monotonic() + WAIT
    while True:
        fd = _open(path)
        try:
            if _try_lock(fd) and _still_named(path, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if time.monotonic() > deadline:
            remedy = "If that host is mounted, unmount it, or work on the mount with --root DIR."
            raise ApvfioError(f"{path} was in use by another apvfio for {WAIT:.0f} s.", remedy=remedy)
        time.sleep(_NAP)


def _open(path: str) -> int:
    try:
        # Not blocking, lest a fifo of that name holds us up.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise RequestError(
            f"there is no simulated host in {path}.", remedy=f"Make one with 'apvfio sim new {path}'."
        ) from None
    except OSError as error:
        raise HostError(
            f"{path} cannot be read: {error.strerror}.", remedy="Check its permissions."
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RequestError(f"{path} is not a regular file.", remedy="Name the file of a simulated host.")
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_named(path: str, fd: int) -> bool:
    """Whether ``path`` is still the file that was locked: the one before us may have replaced it."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _read(path: str, fd: int) -> SimSystem:
    if os.fstat(fd).st_size > _SIZE_LIMIT:
        sentence = f"{path} is larger than {_SIZE_LIMIT >> 20} MiB and so not a simulated host."
        raise RequestError(sentence, remedy="Make one with 'apvfio sim new'.")
    with open(os.dup(fd), "rb") as file:
        data = file.read()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise RequestError(
            f"{path} is not JSON, and so not a simulated host.", remedy="Make one with 'apvfio sim new'."
        ) from None
    try:
        return SimSystem.from_json(document)
    except RequestError as error:
        raise RequestError(f"{path}: {error.sentence}", remedy=error.remedy) from None


def _replace(path: str, old: int, text: str) -> int:
    """Put a new file, locked, in the place of ``path``; its descriptor."""
    fd, new = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        owner = os.fstat(old)
        if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
            # Root working on a user's file leaves it the user's.
            with suppress(PermissionError):
                os.fchown(fd, owner.st_uid, owner.st_gid)
        with open(os.dup(fd), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(new, path)
    except BaseException:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    return fd

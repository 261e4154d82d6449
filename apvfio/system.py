# SPDX-License-Identifier: Apache-2.0
"""A whole machine as apvfio sees it: /sys, the few files it keeps, a lock, and the boot.

`RealSystem` is this machine, or a tree that stands for one (``--root``). The simulated one
is `apvfio.sim.store.SimSystem`. Nothing else in apvfio opens a file of the host.
"""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR

from apvfio.errors import ApvfioError, HostError
from apvfio.liveness import find_process, opener, running_guests
from apvfio.locks import Patience, holding_locks
from apvfio.policy import read_times
from apvfio.private import (
    file_error,
    make_private,
    open_ordinary,
    read_part,
    replace_whole,
    require_private,
    write_all,
)
from apvfio.sysfs import RealSysfs, Sysfs
from apvfio.typed import Protocol
from apvfio.waiting import ROOM, FileRoom, Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from apvfio.promises import Process

_BOOT_ID = "proc/sys/kernel/random/boot_id"
_BOOT_ID_LIMIT = 100
_OWN = ("run/apvfio", "var/lib/apvfio")
_SIZE_LIMIT = 64 << 20
_END = 64 << 10


class Files(Protocol):
    """The files apvfio reads and keeps below /etc and /run; paths without the leading slash."""

    def read(self, path: str) -> str | None:
        """The text of the file, or None where there is none."""

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Replace the file atomically; missing directories are made with mode 0700."""

    def create(self, path: str) -> bool:
        """Make an empty file, mode 0600; False if its directory is not there."""

    def append(self, path: str, text: str) -> None:
        """Add to the end of the file, in one write that is not waited for; made as `write` makes it."""

    def end(self, path: str) -> str:
        """The last 64 KiB of the file, '' where there is none."""

    def size(self, path: str) -> int:
        """The file's size in bytes, 0 where there is none."""

    def rename(self, path: str, new: str) -> None:
        """Give the file, if it is there, another name; a file that has it is gone."""

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted; empty where there is none."""


class System(Protocol):
    """What the broker works on."""

    @property
    def sysfs(self) -> Sysfs:
        """The seam to the kernel."""

    @property
    def files(self) -> Files:
        """The files kept for the host."""

    @property
    def boot_id(self) -> str:
        """Changes with every boot of the host, never between."""

    @property
    def room(self) -> Room:
        """Where calls wait for the lock."""

    @property
    def knows_processes(self) -> bool:
        """Whether this host's processes are known: those of a tree that stands for another host are not."""

    def running_guests(self) -> Mapping[str, Process] | None:
        """The QEMU process of each guest that runs, by the guest's uuid; None where processes are unknown."""

    def opener(self, mdev: str) -> Process | None:
        """The process that has the mediated device open, None if none has or processes are unknown.

        `apvfio.promises.UNKNOWN` if one has that cannot be found.
        """

    def lives(self, process: Process) -> bool:
        """Whether the process still runs; True where nobody can tell."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold this host against every other apvfio and the tools of s390-tools; not re-entrant."""


class RealFiles:
    """Files of the machine whose root directory is ``root``, kept as root's own."""

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def _path(self, path: str) -> str:
        for own in _OWN:
            if path.startswith(f"{own}/"):
                require_private(os.path.join(self._root, own))
        return os.path.join(self._root, path)

    def read(self, path: str) -> str | None:
        try:
            data = read_part(self._path(path), _SIZE_LIMIT + 1)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return None
            raise file_error(self._path(path), "read", error) from error
        if len(data) > _SIZE_LIMIT:
            raise ApvfioError(f"/{path} is larger than {_SIZE_LIMIT >> 20} MiB.", remedy="Move it away.")
        return data.decode("utf-8", "replace")

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        target = self._path(path)
        try:
            replace_whole(target, text.encode(), mode)
        except OSError as error:
            raise file_error(target, "written", error) from error

    def create(self, path: str) -> bool:
        try:
            os.close(open_ordinary(self._path(path), os.O_WRONLY | os.O_CREAT))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise file_error(self._path(path), "made", error) from error
        return True

    def append(self, path: str, text: str) -> None:
        target = self._path(path)
        try:
            make_private(os.path.dirname(target))
            fd = open_ordinary(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                write_all(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise file_error(target, "written", error) from error

    def end(self, path: str) -> str:
        try:
            return read_part(self._path(path), _END, end=True).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise file_error(self._path(path), "read", error) from error

    def size(self, path: str) -> int:
        try:
            return os.lstat(self._path(path)).st_size
        except OSError:
            return 0

    def rename(self, path: str, new: str) -> None:
        try:
            os.replace(self._path(path), self._path(new))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_error(self._path(path), "renamed", error) from error

    def remove(self, path: str) -> None:
        try:
            os.unlink(self._path(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_error(self._path(path), "removed", error) from error

    def list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise file_error(self._path(path), "listed", error) from error


class RealSystem:
    """This machine, or the tree at ``root`` that stands for one."""

    def __init__(self, root: str = "/", waited: float = 0) -> None:
        """``waited``: how many seconds this call's locks have been waited for already, by another process."""
        self.root = root
        self.sysfs: Sysfs = RealSysfs(root)
        self._waited = waited
        self.files: Files = RealFiles(root)
        self.room: Room = FileRoom(os.path.join(root, ROOM))
        self._patience: Patience | None = None

    @property
    def boot_id(self) -> str:
        """The kernel's boot id; a tree without one lives and dies with this machine's boot."""
        for root in (self.root, "/"):
            try:
                fd = open_ordinary(os.path.join(root, _BOOT_ID), os.O_RDONLY)
                with open(fd, encoding="ascii", errors="replace") as file:
                    return file.read(_BOOT_ID_LIMIT).strip()
            except OSError:
                continue
        raise HostError(f"/{_BOOT_ID} cannot be read.", remedy="Mount /proc.")

    @property
    def knows_processes(self) -> bool:
        """As far as it is this machine itself."""
        return on_this_machine(self)

    def running_guests(self) -> Mapping[str, Process] | None:
        """As the processes of this machine tell; a tree that stands for another has none."""
        return running_guests() if on_this_machine(self) else None

    def opener(self, mdev: str) -> Process | None:
        """As with `running_guests`."""
        return opener(mdev) if on_this_machine(self) else None

    def lives(self, process: Process) -> bool:
        """As with `running_guests`."""
        return find_process(process.pid) == process if on_this_machine(self) else True

    def lock(self) -> AbstractContextManager[None]:
        """apvfio's own lock, then that of s390-tools; errors as in `apvfio.locks`.

        All locks of one call are waited for no longer than the policy's lock-wait, taken together.
        """
        if self._patience is None:
            self._patience = Patience(read_times(self.files).lock_wait, self._waited)
        return holding_locks(self.root, self._patience)


def on_this_machine(system: System) -> bool:
    """Whether ``system`` is this machine itself, so that its own tools work on it."""
    return isinstance(system, RealSystem) and os.path.realpath(system.root) == "/"

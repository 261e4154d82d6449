# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a machine: its /sys, the files that apvfio keeps, its processes and its locks.

The real machine is `apvfio.store.system.RealSystem`, the simulated one `apvfio.sim.host_file.SimSystem`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from apvfio.model.process import Process


class Sysfs(Protocol):
    """A host's /sys, real or simulated. All methods raise OSError with the kernel's errno."""

    def read(self, path: str) -> str:
        """The whole text of an attribute."""

    def write(self, path: str, text: str) -> None:
        """Store ``text`` with one write(2): one call of the attribute's store function."""

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""

    def readlink(self, path: str) -> str:
        """The target of a symbolic link."""

    def exists(self, path: str) -> bool:
        """Whether there is a file, directory or link of that name."""


class Files(Protocol):
    """The files apvfio reads and keeps below /etc and /run; paths without the leading slash."""

    def read(self, path: str) -> str | None:
        """The text of the file, or None where there is none."""

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Replace the file atomically; missing directories are made with mode 0700."""

    def create(self, path: str) -> bool:
        """Make an empty file, mode 0600; False if its directory does not exist."""

    def append(self, path: str, text: str) -> None:
        """Add to the end of the file, in one write that is not waited for; made as `write` makes it."""

    def end(self, path: str) -> str:
        """The last 64 KiB of the file, '' where there is none."""

    def size(self, path: str) -> int:
        """The file's size in bytes, 0 where there is none."""

    def rename(self, path: str, new: str) -> None:
        """Rename the file if it exists; a file with the new name is replaced."""

    def remove(self, path: str) -> None:
        """Remove the file if it exists."""

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
    def knows_processes(self) -> bool:
        """Return whether this host's processes are known: those of a tree for ``--root`` are not."""

    def running_guests(self) -> Mapping[str, Process] | None:
        """The QEMU process of each guest that runs, by the guest's uuid; None where processes are unknown."""

    def opener(self, mdev: str) -> Process | None:
        """The process that has the mediated device open, None if none has or processes are unknown.

        `apvfio.model.process.UNKNOWN` if one has that cannot be found.
        """

    def lives(self, process: Process) -> bool:
        """Whether the process still runs; True where nobody can tell."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold this host against every other apvfio and the tools of s390-tools; not re-entrant."""

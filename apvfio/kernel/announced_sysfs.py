# SPDX-License-Identifier: Apache-2.0
"""A host's /sys that reports each write to a callback before the write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.kernel.seam import Sysfs


class AnnouncedSysfs:
    """An `apvfio.kernel.seam.Sysfs`; before each write ``announce`` is called with its path and text."""

    def __init__(self, sysfs: Sysfs, announce: Callable[[str, str], None]) -> None:
        self._sysfs = sysfs
        self._announce = announce

    def read(self, path: str) -> str:
        """The whole text of an attribute."""
        return self._sysfs.read(path)

    def write(self, path: str, text: str) -> None:
        """Announce the write, then make it."""
        self._announce(path, text)
        self._sysfs.write(path, text)

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        return self._sysfs.list(path)

    def readlink(self, path: str) -> str:
        """The target of a symbolic link."""
        return self._sysfs.readlink(path)

    def exists(self, path: str) -> bool:
        """Whether there is a file, directory or link of that name."""
        return self._sysfs.exists(path)

# SPDX-License-Identifier: Apache-2.0
"""The kernel's own sysfs: the real side of `apvfio.kernel.seam.Sysfs`.

Paths are relative to /sys (``bus/ap/apmask``). OSError carries the kernel's errno; `apvfio.kernel.errnos`
knows what it means.
"""

from __future__ import annotations

import os
from errno import EFBIG, EINVAL

from apvfio.model.errors import printable

_PAGE = 4096
_READ_LIMIT = 1 << 20
_CHUNK = 1 << 13
"""More bytes than an attribute has; the requested number is allocated."""
REMOVE_PATIENCE = 10.0
"""Seconds for a device to go: the resets of its queues, begun together, take one or two."""
SCAN_PATIENCE = 10.0
"""Seconds for a scan of the AP bus, which asks the hardware about each queue."""


class RealSysfs:
    """The kernel's own sysfs, or a tree mounted elsewhere, at ``root``/sys."""

    def __init__(self, root: str = "/") -> None:
        self._sys = os.path.join(root, "sys")

    def _path(self, path: str) -> str:
        return f"{self._sys}/{path}"

    def read(self, path: str) -> str:
        # Without blocking, and with a limit: a tree for --root may contain a fifo, or a device.
        fd = os.open(self._path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) <= _READ_LIMIT and (chunk := os.read(fd, _CHUNK)):
                data += chunk
        finally:
            os.close(fd)
        if len(data) > _READ_LIMIT:
            raise OSError(EFBIG, os.strerror(EFBIG), path)
        return data.decode("utf-8", "replace")

    def write(self, path: str, text: str) -> None:
        data = text.encode()
        if len(data) >= _PAGE:
            # The kernel would split the text and treat the rest as a second write.
            raise OSError(EINVAL, "longer than a page", path)
        if path.endswith("/remove"):
            self._remove(path, data)
            return
        if path.endswith("/scans"):
            self._scan(path, data)
            return
        fd = os.open(self._path(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def _remove(self, path: str, data: bytes) -> None:
        # Only what removes a device pays for this.
        from apvfio.mdev.watchdog import holders, write_watched  # noqa: PLC0415

        device = self._path(path).removesuffix("/remove")
        try:
            write_watched(f"{device}/remove", data, REMOVE_PATIENCE)
        except TimeoutError as error:
            who = " and ".join(f"process {pid} ({printable(name)})" for pid, name in holders(device)[:3])
            raise TimeoutError(error.errno, f"{who or 'a process'} has it open", path) from None

    def _scan(self, path: str, data: bytes) -> None:
        # The writer waits for a scan under way, and from 7.3 on only SIGKILL ends that wait
        # (bus:ap_bus_force_rescan): a child waits, so that SIGINT and SIGTERM still end this process.
        from apvfio.mdev.watchdog import write_watched  # noqa: PLC0415

        write_watched(self._path(path), data, SCAN_PATIENCE)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(self._path(path)))

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._path(path))

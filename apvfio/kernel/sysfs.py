# SPDX-License-Identifier: Apache-2.0
"""The seam to the kernel: five operations on paths below /sys, and the real side of it.

Paths are relative to /sys (``bus/ap/apmask``). Every side raises OSError with the kernel's
errno; `refused` turns one into an error that says what the kernel means by it.
"""

from __future__ import annotations

import os
from errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EBUSY,
    EEXIST,
    EFBIG,
    EINVAL,
    ENODEV,
    ENOENT,
    ENOTDIR,
    EPERM,
    ETIMEDOUT,
    EUSERS,
    errorcode,
)

from apvfio.model.errors import ConflictError, HostError, KernelRefusedError, printable

_PAGE = 4096
_READ_LIMIT = 1 << 20
_CHUNK = 1 << 13
"""More than an attribute has: what is asked for is allocated."""
_REMOVE_PATIENCE = 10.0
"""Seconds for a device to go: the resets of its queues, begun together, take one or two."""


class RealSysfs:
    """The kernel's own sysfs, or a tree mounted elsewhere, at ``root``/sys."""

    def __init__(self, root: str = "/") -> None:
        self._sys = os.path.join(root, "sys")

    def _path(self, path: str) -> str:
        return f"{self._sys}/{path}"

    def read(self, path: str) -> str:
        # Not blocking, and not without end: a tree that stands for a host may hold a fifo, or a device.
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
            # The kernel would cut it and take the rest for a second store.
            raise OSError(EINVAL, "longer than a page", path)
        if path.endswith("/remove"):
            self._remove(path, data)
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
            write_watched(f"{device}/remove", data, _REMOVE_PATIENCE)
        except TimeoutError as error:
            who = " and ".join(f"process {pid} ({printable(name)})" for pid, name in holders(device)[:3])
            raise TimeoutError(error.errno, f"{who or 'a process'} has it open", path) from None

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(self._path(path)))

    def readlink(self, path: str) -> str:
        return os.readlink(self._path(path))

    def exists(self, path: str) -> bool:
        return os.path.lexists(self._path(path))


_MASK = ("apmask", "aqmask")
_ASSIGN = ("ap_config", "assign_adapter", "assign_domain")
# What an errno of a store function means (facts: ap_bus.c, ap_queue.c, vfio_ap_ops.c, mdev_sysfs.c).
_MEANING: dict[tuple[tuple[str, ...], int], tuple[str, str]] = {
    (_MASK, EBUSY): (
        "a mediated device still holds one of these ids",
        "Stop the guest or remove the mediated device first.",
    ),
    (_MASK, EINVAL): (
        "a queue of this host has a driver_override, which shuts the masks",
        "Clear the overrides (see /sys/bus/ap/devices/*/driver_override) or use them throughout.",
    ),
    (("driver_override",), EINVAL): (
        "the AP masks of this host are in use, which shuts driver_override",
        "Return all bits to apmask and aqmask first.",
    ),
    (_ASSIGN, EADDRNOTAVAIL): (
        "one of these queues still belongs to the host's drivers",
        "Look at 'apvfio queues' for queues that are not bound to vfio_ap.",
    ),
    (_ASSIGN, EADDRINUSE): (
        "one of these queues is assigned to another mediated device",
        "Look at 'apvfio status' for who holds it.",
    ),
    (_ASSIGN, ENODEV): ("an id is larger than this host allows", "Look at 'apvfio queues'."),
    (("create",), EEXIST): (
        "a mediated device with this uuid exists already, or waits for its last user to be gone",
        "See who has /dev/vfio open, and try again when that has ended.",
    ),
    (("create",), EUSERS): ("no more mediated devices can be made", "Remove one that nobody needs."),
}


def unreadable(error: OSError) -> HostError:
    """The error to raise when what every host with an AP bus has could not be read."""
    return HostError(
        f"the AP bus of this host cannot be read: {error}.", remedy="Perhaps it changed meanwhile: try again."
    )


def refused(error: OSError, path: str, value: str) -> KernelRefusedError | HostError | ConflictError:
    """The error to raise when writing ``value`` to ``path`` (below /sys) ended with ``error``."""
    number = error.errno or 0
    if number in (EACCES, EPERM):
        return HostError(f"writing /sys/{path} is not permitted.", remedy="Run this as root.")
    if number in (ENOENT, ENOTDIR):
        return HostError(f"/sys/{path} is not there.", remedy="See whether the AP drivers are loaded.")
    if number == ETIMEDOUT:
        return ConflictError(
            f"writing /sys/{path} has not ended: {error.strerror}.",
            remedy="The kernel goes on as soon as that is over; 'apvfio reconcile' does the rest then.",
        )
    name = path.rpartition("/")[2]
    reason, remedy = next(
        (meaning for (names, errno), meaning in _MEANING.items() if name in names and errno == number),
        (os.strerror(number), "See 'apvfio doctor'."),
    )
    code = errorcode.get(number, str(number))
    return KernelRefusedError(
        f"the kernel refused {value.strip()!r} for /sys/{path}: {reason} ({code}).",
        errno=number,
        path=path,
        value=value,
        remedy=remedy,
    )

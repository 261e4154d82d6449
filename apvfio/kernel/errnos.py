# SPDX-License-Identifier: Apache-2.0
"""The meaning of each errno from /sys (ap_bus.c, ap_queue.c, vfio_ap_ops.c, mdev_sysfs.c)."""

from __future__ import annotations

import errno
import os

from apvfio.model.errors import ConflictError, HostError, KernelRefusedError
from apvfio.model.step import OFFLINE, PROBE, REMOVE, RETURN, UNBIND

_MASK = ("apmask", "aqmask")
_ASSIGN = ("ap_config", "assign_adapter", "assign_domain")
MEANING: dict[tuple[tuple[str, ...], int], tuple[str, str]] = {
    (_MASK, errno.EBUSY): (
        "a mediated device still holds one of these ids",
        "Stop the guest or remove the mediated device first.",
    ),
    (_MASK, errno.EINVAL): (
        "a queue of this host has a driver_override, and while one has, no mask can be changed",
        "Clear the overrides (see /sys/bus/ap/devices/*/driver_override) or use them throughout.",
    ),
    (("driver_override",), errno.EINVAL): (
        "a bit of apmask or aqmask is clear, and while any is clear, no driver_override can be set",
        "Return all bits to apmask and aqmask first.",
    ),
    (_ASSIGN, errno.EADDRNOTAVAIL): (
        "one of these queues still belongs to the host's drivers",
        "See 'apvfio queues' for queues that are not bound to vfio_ap.",
    ),
    (_ASSIGN, errno.EADDRINUSE): (
        "one of these queues is assigned to another mediated device",
        "See 'apvfio status' for its holder.",
    ),
    (_ASSIGN, errno.ENODEV): ("an id is larger than this host allows", "See 'apvfio queues'."),
    (("create",), errno.EEXIST): (
        "a mediated device with this uuid exists already, or is being removed and still has a user",
        "See who has /dev/vfio open, and try again when that has ended.",
    ),
    (("create",), errno.EUSERS): ("no more mediated devices can be made", "Remove one that nobody needs."),
}


HARMLESS = {
    (REMOVE, errno.ENODEV),  # gone already, which is what was wanted
    (REMOVE, errno.ENOENT),
    (UNBIND, errno.ENODEV),
    (UNBIND, errno.ENOENT),  # the driver is gone
    (PROBE, errno.ENODEV),  # the queue is gone, and its override with it
    (RETURN, errno.ENODEV),
    (RETURN, errno.ENOENT),
    (RETURN, errno.EBUSY),  # an mdev made meanwhile holds the id: the return stays pending
    (OFFLINE, errno.ENOENT),  # another driver has it, or the queue is gone
    (OFFLINE, errno.ENODEV),
    (OFFLINE, errno.EINVAL),
}
"""The kinds of steps and the errnos that are no failure of them."""


def unreadable(error: OSError) -> HostError:
    """Return the error for a file that every host with an AP bus has, and that could not be read."""
    return HostError(
        f"the AP bus of this host cannot be read: {error}.",
        remedy="It may have changed while it was read: try again.",
    )


def refused(error: OSError, path: str, value: str) -> KernelRefusedError | HostError | ConflictError:
    """The error to raise when writing ``value`` to ``path`` (below /sys) ended with ``error``."""
    number = error.errno or 0
    if number in (errno.EACCES, errno.EPERM):
        return HostError(f"writing /sys/{path} is not permitted.", remedy="Run this as root.")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return HostError(f"/sys/{path} does not exist.", remedy="Check that the AP drivers are loaded.")
    if number == errno.ETIMEDOUT:
        return ConflictError(
            f"writing /sys/{path} has not ended: {error.strerror}.",
            remedy="The kernel continues when that process has ended; then run 'apvfio reconcile'.",
        )
    name = path.rpartition("/")[2]
    reason, remedy = next(
        (meaning for (names, meant), meaning in MEANING.items() if name in names and meant == number),
        (os.strerror(number), "See 'apvfio doctor'."),
    )
    code = errno.errorcode.get(number, str(number))
    return KernelRefusedError(
        f"the kernel refused {value.strip()!r} for /sys/{path}: {reason} ({code}).",
        errno=number,
        path=path,
        value=value,
        remedy=remedy,
    )


def is_gone(error: OSError) -> bool:
    """Whether a mediated device could not be read because it has been removed meanwhile."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EIO)


def is_made_already(error: Exception) -> bool:
    """Whether a mediated device could not be made because there is one of that uuid."""
    return isinstance(error, KernelRefusedError) and error.errno == errno.EEXIST


def is_lost(error: KernelRefusedError) -> bool:
    """Whether queues could not be assigned because the host or another mediated device has them."""
    return error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE)

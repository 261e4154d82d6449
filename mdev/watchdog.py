# SPDX-License-Identifier: Apache-2.0
"""Writes that the kernel may block without limit, made under a watchdog.

The removal of a device that a process has open waits until the process closes it, and after a signal that
wait cannot be interrupted (mdev_core.c:mdev_device_remove_common, vfio_main.c: vfio_unregister_group_dev). A
child process therefore makes the write. If the write does not return in time, the child is left alone: the
removal is under way in the kernel and cannot be undone.
"""

from __future__ import annotations

import os
import select
from errno import EINTR, ETIMEDOUT

_RESULT = 4


def write_watched(path: str, data: bytes, patience: float) -> None:
    """Write ``data`` to ``path`` with one write(2); OSError if it fails.

    TimeoutError after ``patience`` seconds: the write continues, and ends when the kernel lets it.
    """
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
            if pid == 0:
                _write_and_exit(file, data, theirs)
            os.close(theirs)
            ready, _, _ = select.select([ours], [], [], patience)
            if not ready:
                raise TimeoutError(ETIMEDOUT, f"it did not end within {patience:g} s", path)
            result = os.read(ours, _RESULT)
            os.waitpid(pid, 0)
        finally:
            os.close(ours)
    finally:
        os.close(file)
    # Nothing at all is what a child that was killed says.
    number = int.from_bytes(result, "little") if result else EINTR
    if number:
        raise OSError(number, os.strerror(number), path)


def holders(device: str, proc: str = "/proc") -> list[tuple[int, str]]:
    """Return the processes, pid and name, that have the mediated device with the directory ``device`` open.

    They have opened its group's node, or its own (vfio_main.c, group.c). While a removal waits, sysfs still
    has the link to the group, but no longer the device's own name.
    """
    group = _target(f"{device}/iommu_group")
    nodes = {f"/dev/vfio/devices/{name}" for name in _listed(f"{device}/vfio-dev")}
    if group:
        nodes.add("/dev/vfio/" + os.path.basename(group))
    found = []
    for name in filter(str.isdigit, os.listdir(proc)):
        links = (f"{proc}/{name}/fd/{fd}" for fd in _listed(f"{proc}/{name}/fd"))
        if nodes.intersection(filter(None, map(_target, links))):
            try:
                with open(f"{proc}/{name}/comm", encoding="utf-8", errors="replace") as file:
                    found.append((int(name), file.read().strip()))
            except OSError:  # it has just ended
                continue
    return sorted(found)


def _listed(directory: str) -> list[str]:
    """Return the names in a directory, none if it is gone or may not be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _write_and_exit(file: int, data: bytes, result: int) -> None:
    """The child's whole life. It may outlive its parent: it keeps none of his files, locks and pipes open."""
    number = 0
    try:
        os.setsid()
        os.dup2(file, 0)
        os.dup2(result, 1)
        os.closerange(2, os.sysconf("SC_OPEN_MAX"))
        os.write(0, data)
    except OSError as error:
        number = error.errno or 0
    finally:
        try:
            os.write(1, number.to_bytes(_RESULT, "little"))
        finally:
            os._exit(0)

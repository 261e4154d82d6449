# SPDX-License-Identifier: Apache-2.0
"""Mounts, for a process that has a mount namespace of its own."""

from __future__ import annotations

import ctypes
import os
import stat

_MS_BIND = 4096
_MS_REC = 16384
_libc = ctypes.CDLL(None, use_errno=True)


def bind(source: str, target: str) -> None:
    """Show the file or directory ``source``, with what is mounted in it, at ``target``, which exists."""
    _mount(source, target, "", _MS_BIND | _MS_REC)


def tmpfs(target: str) -> None:
    """Put an empty directory, kept in memory, over ``target``."""
    _mount("tmpfs", target, "tmpfs", 0, "mode=0755")


def sysfs(target: str) -> None:
    """Put a sysfs over ``target`` that shows the network devices of our own namespace."""
    _mount("sysfs", target, "sysfs", 0)


def place(source: str, target: str) -> None:
    """Like `bind`, making ``target`` first; its directory must be ours (see `open_up`)."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    bind(source, target)


def open_up(directory: str, without: tuple[str, ...] = ()) -> None:
    """Replace ``directory`` by one that looks the same, but for ``without``, and takes new entries.

    All entries are bound from the original, so what is written to them goes there.
    """
    original = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = os.listdir(directory)
        tmpfs(directory)
        for name in names:
            if name in without:
                continue
            if stat.S_ISLNK(os.lstat(f"/proc/self/fd/{original}/{name}").st_mode):
                os.symlink(os.readlink(name, dir_fd=original), f"{directory}/{name}")
            else:
                place(f"/proc/self/fd/{original}/{name}", f"{directory}/{name}")
    finally:
        os.close(original)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    if _libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)

# SPDX-License-Identifier: Apache-2.0
"""Files and directories that are opened without following links, without waiting, and for their owner alone.

/run/lock is open to everybody, and a directory that should be ours may have been made by somebody else:
what lies in such a place may be a link to another file, a fifo that nobody writes to, or a device.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import EINVAL, EMLINK

from apvfio.errors import HostError

_OTHERS_MAY_WRITE = 0o022


def open_ordinary(path: str, flags: int, mode: int = 0o600) -> int:
    """Open the ordinary file ``path``; OSError, whose ``strerror`` is a clause, if it is anything else.

    To be written to it must have one name only: the other one might be a file that is not ours.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OSError(EINVAL, "it is no ordinary file", path)
    if flags & os.O_ACCMODE != os.O_RDONLY and found.st_nlink > 1:
        os.close(fd)
        raise OSError(EMLINK, "it is the same file as another", path)
    return fd


def make_private(path: str) -> None:
    """Make the directory ``path`` and those above it that are missing, for their owner alone; OSError."""
    parent = os.path.dirname(path)
    if parent and not os.path.lexists(parent):
        make_private(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def require_private(path: str) -> None:
    """HostError if others than root and us can put files into the directory ``path``, if it is there."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # whoever wants something in it will hear of it
    if not stat.S_ISDIR(found.st_mode):
        raise HostError(f"{path} cannot be used: it is no directory.", remedy="Remove it.")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_MAY_WRITE:
        raise HostError(
            f"{path} cannot be used: others may have put files into it, as it has mode "
            f"{stat.S_IMODE(found.st_mode):04o} and belongs to uid {found.st_uid}.",
            remedy=f"Look what is in it, then 'chown root {path}' and 'chmod 0700 {path}'.",
        )

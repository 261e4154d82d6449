# SPDX-License-Identifier: Apache-2.0
"""Open files and directories without following links, without waiting, and for their owner alone.

/run/lock is open to everybody, and another user may have made a directory in the place of apvfio's. An entry
there may be a link to another file, a fifo that nobody writes to, or a device. A file is written as a whole
or not at all, and `file_error` turns the kernel's refusal into a sentence.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EDQUOT, EINVAL, EIO, ELOOP, EMFILE, EMLINK, ENFILE, ENOSPC, EPERM, EROFS

from apvfio.model.contexts import suppress
from apvfio.model.errors import FileError, HostError

_OTHERS_MAY_WRITE = 0o022
_CHUNK = 1 << 16
"""Bytes to request at once; the requested number is allocated."""
_REMEDIES = {
    EIO: "See the kernel's log for errors of that medium: 'dmesg'.",
    ELOOP: "Remove the link.",
    EMFILE: "Raise this process' limit of open files: see 'prlimit --nofile'.",
    ENFILE: "Raise the system's limit of open files: see 'sysctl fs.file-max'.",
    EROFS: "Mount that file system read-write.",
}


def open_ordinary(path: str, flags: int, mode: int = 0o600) -> int:
    """Open the ordinary file ``path``; OSError, whose ``strerror`` is a clause, if it is anything else.

    A file that is opened for writing must have only one name: another name might belong to a foreign file.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(EINVAL, "it is not a regular file", path)
        if flags & os.O_ACCMODE != os.O_RDONLY and found.st_nlink > 1:
            raise OSError(EMLINK, "it is the same file as another", path)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_part(path: str, limit: int, *, end: bool = False) -> bytes:
    """Return the first ``limit`` bytes of the ordinary file ``path``, with ``end`` the last; OSError."""
    fd = open_ordinary(path, os.O_RDONLY)
    try:
        if end:
            os.lseek(fd, max(0, os.fstat(fd).st_size - limit), os.SEEK_SET)
        parts = []
        while limit > 0 and (part := os.read(fd, min(limit, _CHUNK))):
            parts.append(part)
            limit -= len(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``: one write(2) may take less, on a file system that is nearly full."""
    while data:
        written = os.write(fd, data)
        if not written:
            raise OSError(EIO, os.strerror(EIO))
        data = data[written:]


def replace_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put a file with ``data`` and ``mode`` at ``path``; make its directory. OSError: nothing changed.

    Once the new file has its name, the call has succeeded: after an error, the caller would undo the rest. It
    is therefore no error if the directory cannot be synced; only a power failure could make that visible.
    """
    make_private(os.path.dirname(path))
    new = f"{path}.{os.getpid()}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)  # of a dead process that had this pid
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            os.fchmod(fd, mode)  # whatever the caller's umask
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise
    with suppress(OSError):
        _sync_directory(os.path.dirname(path))


def file_error(path: str, done: str, error: OSError) -> FileError:
    """The error to raise when ``path`` could not be ``done``, such as "written", because of ``error``."""
    number = error.errno or 0
    reason = (
        "it is a symbolic link, which is not followed" if number == ELOOP else error.strerror or str(error)
    )
    if number in (EACCES, EPERM):
        # Root has all rights but over a file with attributes of its own, or against SELinux.
        remedy = f"Run this as root, or check 'lsattr {path}' and SELinux's log."
    elif number in (ENOSPC, EDQUOT):
        remedy = f"Free space there: see 'df {os.path.dirname(path)}'."
    else:
        remedy = _REMEDIES.get(number, "Correct this and try again.")
    return FileError(f"{path} cannot be {done}: {reason}.", errno=number, path=path, remedy=remedy)


def make_private(path: str) -> None:
    """Make the directory ``path`` and those above it that are missing, for their owner alone; OSError."""
    parent = os.path.dirname(path)
    if parent and not os.path.lexists(parent):
        make_private(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)


def require_private(path: str) -> None:
    """HostError if users other than root and this one can put files into the directory ``path``."""
    try:
        found = os.lstat(path)
    except OSError:
        return  # whoever wants something in it will hear of it
    if not stat.S_ISDIR(found.st_mode):
        raise HostError(f"{path} cannot be used: it is not a directory.", remedy="Remove it.")
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_MAY_WRITE:
        raise HostError(
            f"{path} cannot be used: others may have put files into it, as it has mode "
            f"{stat.S_IMODE(found.st_mode):04o} and belongs to uid {found.st_uid}.",
            remedy=f"Check its content, then run 'chown root {path}' and 'chmod 0700 {path}'.",
        )


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

# SPDX-License-Identifier: Apache-2.0
"""Two locks, always in this order: apvfio's own, then the one that s390-tools share.

The second is s390-tools' existence lock (libutil/util_lockfile.c): a temporary file with
the holder's pid, linked to the lock's name. It is racy by design and must never be held
while chzdev, lszdev or mdevctl runs, because those take it themselves.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from errno import EEXIST

from apvfio.errors import ApvfioError, printable
from apvfio.private import file_error, make_private, open_ordinary, require_private, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_LOCK = "run/apvfio/lock"
S390_LOCK = "run/lock/s390apconfig.lock"
OWN_WAIT = 20.0
"""Seconds to wait for another apvfio; giving back 85 queues takes about 3 s."""
S390_WAIT = 5.0
"""Seconds to wait for a tool of s390-tools, which hold their lock for milliseconds."""
_NAP = 0.01
_NAMES = 0x100
_EMPTY_IS_STALE = 120
"""Seconds after which s390-tools regard a lock file without a pid as left behind."""


@contextmanager
def holding_locks(root: str = "/", wait: float = OWN_WAIT) -> Iterator[None]:
    """Hold both locks of the host at ``root``; ApvfioError naming the holder when the wait is over."""
    with own_lock(os.path.join(root, OWN_LOCK), wait), s390_lock(os.path.join(root, S390_LOCK)):
        yield


@contextmanager
def own_lock(path: str, wait: float = OWN_WAIT) -> Iterator[None]:
    """Hold apvfio's own lock at ``path``: a flock, which ends with its holder."""
    directory = os.path.dirname(path)
    try:
        make_private(directory)
        require_private(directory)
        fd = open_ordinary(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise file_error(path, "locked", error) from error
    try:
        deadline = time.monotonic() + wait
        while not _try_flock(fd, path):
            if time.monotonic() > deadline:
                raise _still_held(path, wait, _first_number(os.pread(fd, 40, 0)))
            time.sleep(_NAP)
        with suppress(OSError):  # a full /run: the lock holds without telling who has it
            os.pwrite(fd, f"{os.getpid():<10}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextmanager
def s390_lock(path: str, wait: float = S390_WAIT) -> Iterator[None]:
    """Hold s390-tools' lock at ``path``, exactly by their protocol.

    Its directory is open to everybody: what is no lock there is neither read nor waited for.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _take(path, wait)
    except OSError as error:
        raise file_error(path, "locked", error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # it is no longer ours
            if _holder(path) == os.getpid():
                _unlink(path)


def _take(path: str, wait: float) -> None:
    new = _with_our_pid(path)
    try:
        deadline = time.monotonic() + wait
        while not _try_link(new, path):
            if _stale(path):
                _unlink(path)
            elif time.monotonic() > deadline:
                raise _still_held(path, wait, _holder(path))
            else:
                time.sleep(_NAP)
    finally:
        with suppress(OSError):  # what is left of it harms nobody
            _unlink(new)


def _with_our_pid(path: str) -> str:
    """A new file that holds our pid, under a name such as s390-tools choose."""
    pid, begun = os.getpid(), time.time_ns()
    for number in range(begun, begun + _NAMES):
        new = f"{path}{pid % 100000:05d}{number % _NAMES:02x}"
        with suppress(FileExistsError):
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                write_all(fd, f"{pid}\n".encode())
            except OSError:
                _unlink(new)
                raise
            finally:
                os.close(fd)
            return new
    raise OSError(EEXIST, f"there are files named {path}{pid % 100000:05d}..", path)


def _try_flock(fd: int, path: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise file_error(path, "locked", error) from error
    return True


def _try_link(new: str, path: str) -> bool:
    try:
        os.link(new, path, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def _holder(path: str) -> int:
    """The pid in the lock file, 0 if there is none."""
    try:
        fd = open_ordinary(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        return _first_number(os.read(fd, 40))
    finally:
        os.close(fd)


def _stale(path: str) -> bool:
    pid = _holder(path)
    if pid:
        return not os.path.exists(f"/proc/{pid}")
    try:
        return time.time() - os.lstat(path).st_mtime > _EMPTY_IS_STALE
    except FileNotFoundError:
        return False


def _first_number(data: bytes) -> int:
    words = data.split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _still_held(path: str, wait: float, pid: int) -> ApvfioError:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        command = ""
    who = f"pid {pid}" + (f" ({printable(command)})" if command else "") if pid else "an unknown process"
    return ApvfioError(
        f"the lock {path} was held by {who} for {wait:.0f} s.",
        remedy="Try again when that has ended.",
    )

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
from errno import EEXIST

from apvfio.model.contexts import contextmanager, suppress
from apvfio.model.errors import ApvfioError, printable
from apvfio.store.processes import age, command_line, find_process
from apvfio.store.safe_open import file_error, make_private, open_ordinary, require_private, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_LOCK = "run/apvfio/lock"
S390_LOCK = "run/lock/s390apconfig.lock"
WAIT = 60.0
"""Seconds to wait for both locks. Tools of s390-tools hold theirs as long as the kernel works: mdevctl from
its first callout to its last, chzdev while it writes a mask. With slow resets that was seen to take 14 s."""
_NAP = 0.01
_NAMES = 0x100
_EMPTY_IS_STALE = 120
"""Seconds after which s390-tools regard a lock file without a pid as left behind."""
_STARTED_LATER = 0.05
"""Seconds by which a process must have started after a file was written not to be its writer: file times
lag behind by a tick of the kernel, and a process' start is rounded down to one."""


class Patience:
    """How long one call waits for locks, all its locks and turns together; ``waited`` seconds are over."""

    def __init__(self, seconds: float = WAIT, waited: float = 0) -> None:
        self.seconds = seconds
        """The total wait, for messages."""
        self._left = max(0.0, seconds - waited)

    @contextmanager
    def spent(self) -> Iterator[float]:
        """The context in which a lock is waited for; it gets the deadline (time.monotonic)."""
        begun = time.monotonic()
        try:
            yield begun + self._left
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - begun))


@contextmanager
def holding_locks(root: str = "/", patience: Patience | None = None) -> Iterator[None]:
    """Hold both locks of the host at ``root``; ApvfioError naming the holder when ``patience`` ends."""
    patience = patience or Patience()
    with own_lock(os.path.join(root, OWN_LOCK), patience), s390_lock(os.path.join(root, S390_LOCK), patience):
        yield


@contextmanager
def own_lock(path: str, patience: Patience | None = None) -> Iterator[None]:
    """Hold apvfio's own lock at ``path``: a flock, which ends with its holder."""
    directory = os.path.dirname(path)
    patience = patience or Patience()
    try:
        make_private(directory)
        require_private(directory)
        fd = open_ordinary(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise file_error(path, "locked", error) from error
    try:
        with patience.spent() as deadline:
            if not _wait_for_flock(fd, path, deadline):
                raise _still_held(path, patience, _first_number(os.pread(fd, 40, 0)))
        with suppress(OSError):  # a full /run: the lock holds without telling who has it
            os.pwrite(fd, f"{os.getpid():<10}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextmanager
def s390_lock(path: str, patience: Patience | None = None) -> Iterator[None]:
    """Hold s390-tools' lock at ``path``, exactly by their protocol.

    Its directory is open to everybody: an entry that is not a lock is neither read nor waited for.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _take(path, patience or Patience())
    except OSError as error:
        raise file_error(path, "locked", error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # it is no longer ours
            if _holder(path) == os.getpid():
                _unlink(path)


def _take(path: str, patience: Patience) -> None:
    new = _with_our_pid(path)
    try:
        with patience.spent() as deadline:
            while not _try_link(new, path):
                if _stale(path):
                    _unlink(path)
                elif time.monotonic() > deadline:
                    raise _still_held(path, patience, _holder(path))
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


def _wait_for_flock(fd: int, path: str, deadline: float) -> bool:
    """Lock the open file, first come, first served; return False if others have it until ``deadline``."""
    try:
        if not _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            seconds = deadline - time.monotonic()
            return seconds > 0 and _flock_within(fd, seconds)
    except OSError as error:
        raise file_error(path, "locked", error) from error
    return True


def _flock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation)
    except BlockingIOError:
        return False
    return True


def _flock_within(fd: int, seconds: float) -> bool:
    """Lock the open file; the kernel waits, and a timer of the process ends that.

    Only a main thread has signals. In another thread the lock is asked for again and again.
    """
    # Nearly always nobody else has the lock.
    import signal  # noqa: PLC0415
    import threading  # noqa: PLC0415

    if threading.current_thread() is not threading.main_thread():
        deadline = time.monotonic() + seconds
        while not _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if time.monotonic() > deadline:
                return False
            time.sleep(_NAP)
        return True

    def expire(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return _flock(fd, fcntl.LOCK_EX)
    except TimeoutError:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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


def has_ended(pid: int, written: float) -> bool:
    """Whether the process has ended that wrote its ``pid`` into a file at ``written`` (time.time).

    Another process may have that pid by now.
    """
    process = find_process(pid)
    return process is None or time.time() - age(process) > written + _STARTED_LATER


def _stale(path: str) -> bool:
    """Whether the lock keeps nobody from the host: its holder has ended, or was never one.

    Only root can hold it to change the host. Where /run/lock is open to everybody, others can make files.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if found.st_uid not in (0, os.geteuid()):
        return True
    pid = _holder(path)
    if not pid:
        return time.time() - found.st_mtime > _EMPTY_IS_STALE
    return has_ended(pid, found.st_mtime)


def _first_number(data: bytes) -> int:
    words = data.split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _still_held(path: str, patience: Patience, pid: int) -> ApvfioError:
    command = b" ".join(command_line(pid)).decode("utf-8", "replace").strip()
    who = f"pid {pid}" + (f" ({printable(command)})" if command else "") if pid else "an unknown process"
    return ApvfioError(
        f"the lock {path} was held by {who} for {patience.seconds:.0f} s.",
        remedy="Try again when that has ended.",
    )

# SPDX-License-Identifier: Apache-2.0
"""Mount the simulated host: unmodified tools work on it as on a machine.

It runs in the foreground until somebody unmounts it or stops the process. The host's file stays locked
meanwhile, and is saved soon after every change.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from errno import EINVAL
from typing import TYPE_CHECKING

from apvfio.model.errors import HostError, UsageError
from apvfio.sim.fuse_operations import Face
from apvfio.sim.host_file import open_sim_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from apvfio.sim.host_file import SimFile

_IDLE = 0.5
"""Seconds without a change after which the file is saved."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def mount(path: str, directory: str, ready: Callable[[], None] = lambda: None) -> None:
    """Show the simulated host in the file ``path`` as a tree at ``directory``, until it is unmounted.

    ``ready`` is called when the tree can be used. SIGINT, SIGTERM and SIGHUP unmount it.
    """
    fuse = load_library()
    directory = os.path.realpath(directory)
    path = os.path.realpath(path)
    if not os.path.isdir(directory):
        raise UsageError(f"{directory} is not a directory.", remedy="Create it, or name another.")
    if os.path.commonpath((path, directory)) == directory:
        raise UsageError(f"{directory} would cover {path}.", remedy="Mount it at another directory.")
    with open_sim_file(path) as file:
        saver = _Saver(file)
        face = Face(file.system, saver.changed, ready)
        with _default_signals(), saver.running(face.guard):
            _serve(fuse, face, directory)


def load_library() -> Any:
    """Return the module mfusepy; HostError, with a remedy, if nothing can be mounted here."""
    if not os.path.exists("/dev/fuse"):
        raise HostError(
            "/dev/fuse does not exist.", remedy="Load the module fuse, or give the container that device."
        )
    try:
        # Not at the top: everything but the mount works without it.
        import mfusepy  # noqa: PLC0415
    except (AttributeError, ImportError, OSError):
        remedy = "Install libfuse3 (package libfuse3-3 or fuse3) and mfusepy (pip install 'apvfio[sim]')."
        raise HostError("the FUSE library cannot be loaded.", remedy=remedy) from None
    return mfusepy


def _serve(fuse: Any, face: Face, directory: str) -> None:
    try:
        _session(fuse)(
            face,
            directory,
            raw_fi=True,
            foreground=True,
            nothreads=True,
            fsname="apvfio-sim",
            default_permissions=True,
            allow_other=os.geteuid() == 0,
            attr_timeout=0,
            entry_timeout=0,
            negative_timeout=0,
        )
    except RuntimeError as error:
        # After a signal libfuse reports an error, too; then an end is an end.
        if not face.used:
            sentence = f"{directory} could not be mounted (libfuse said {error})."
            raise HostError(sentence, remedy="Check its permissions, and those of /dev/fuse.") from None


def _session(fuse: Any) -> Any:
    class Session(fuse.FUSE):  # type: ignore[misc]  # mfusepy has no types
        """mfusepy's session, which knows that a rename may have conditions."""

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            # Without this RENAME_NOREPLACE would replace. Callers can do without it.
            return -EINVAL if flags else int(super().rename_fuse_3(old, new, flags))

    return Session


@contextmanager
def _default_signals() -> Iterator[None]:
    """libfuse ends the session on a signal only if nobody else handles it."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Saver:
    """Saves the host's file once there was no change for a moment."""

    def __init__(self, file: SimFile) -> None:
        self._file = file
        self._dirty = threading.Event()
        self._ended = threading.Event()

    def changed(self) -> None:
        """The host may have changed."""
        self._dirty.set()

    @contextmanager
    def running(self, lock: threading.Lock) -> Iterator[None]:
        """Save in a thread of its own; ``lock`` keeps the host still while it is put into text."""
        thread = threading.Thread(target=self._run, args=(lock,), daemon=True)
        # The signals are for libfuse's loop, in the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        thread.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            yield
        finally:
            self._ended.set()
            self._dirty.set()
            thread.join()

    def _run(self, lock: threading.Lock) -> None:
        while self._dirty.wait() and not self._ended.wait(_IDLE):
            self._dirty.clear()
            with lock:
                text = self._file.text()
            try:
                self._file.save(text)
            except HostError as error:
                # It may succeed the next time; at the end it has to.
                print(f"apvfio: {error}", file=sys.stderr)

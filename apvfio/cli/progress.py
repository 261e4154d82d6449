# SPDX-License-Identifier: Apache-2.0
"""One line on the terminal for a long operation, removed when the operation ends.

The kernel resets queues inside the write that moves them, and the writing thread waits. Another thread
therefore draws the line; it touches nothing but the terminal.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import suppress

from apvfio.cli.terminal import can_draw, print_lines
from apvfio.model.errors import printable
from apvfio.model.progress import FOR_THE_LOCK
from apvfio.view.columns import cut

_PATIENCE = 1.0
"""Seconds to wait before saying anything: most waits are shorter."""
_BEAT = 1.0
_STOPPED = 0.3
"""Seconds to wait for the terminal: one that is stopped (Ctrl-S) must not stop the work, under the lock."""
_ERASE = "\r\x1b[K"
_LONGEST = 300


class ProgressLine:
    """Shows on standard error, in a ``with``, what the command waits for; shows nothing outside a terminal.

    Called with a clause it is an `apvfio.model.progress.Progress`. With ``verbose`` each clause is a line,
    also where standard error is not a terminal.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._what, self._since = "", 0.0
        self._ended = False
        self._changed = threading.Event()
        self._drawing = threading.Lock()
        self._erased = threading.Event()
        self._thread = (
            threading.Thread(target=self._run, daemon=True) if can_draw(sys.stderr) and not verbose else None
        )

    def __enter__(self) -> ProgressLine:
        self._erased.set()
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self("")
        self._ended = True
        self._changed.set()

    def __call__(self, what: str) -> None:
        """Show, after a while, that the command waits for ``what``; '' ends that."""
        if self._verbose and what and what != self._what:
            # It is not known in advance whether the call has to wait for the lock.
            shown = "taking the lock" if what == FOR_THE_LOCK else printable(what, _LONGEST)
            print_lines([f"apvfio: {shown}"], sys.stderr)
        drawn = self._drawing.acquire(timeout=_STOPPED)
        if not (what and self._what):
            self._since = time.monotonic()
        self._what = what
        if drawn:
            self._drawing.release()
        self._changed.set()
        if not what:
            self._erased.wait(_STOPPED)

    def _run(self) -> None:
        with suppress(OSError):  # the terminal has gone
            while not self._ended:
                self._changed.clear()
                with self._drawing:
                    what, waited = self._what, time.monotonic() - self._since
                    self._draw(what, int(waited))
                self._changed.wait(max(_PATIENCE - waited, 0.0) or _BEAT if what else None)
        self._erased.set()

    def _draw(self, what: str, seconds: int) -> None:
        if what and seconds >= _PATIENCE:
            self._erased.clear()
            waited = f" ({seconds} s)"
            # One column is left: in the last one the cursor waits to go to the next line.
            room = max(1, shutil.get_terminal_size().columns - len(waited) - 1)
            print_lines([_ERASE + cut(printable(what, _LONGEST), room) + waited], sys.stderr, end="")
            sys.stderr.flush()
        elif not what and not self._erased.is_set():
            print(_ERASE, end="", file=sys.stderr, flush=True)
            self._erased.set()

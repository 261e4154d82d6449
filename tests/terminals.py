# SPDX-License-Identifier: Apache-2.0
"""apvfio run in a terminal of its own, and what is on its screen."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 20.0
_STEP = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """As much of a terminal as apvfio may rely on; whatever else it is sent is an error."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns = columns
        self.lines = [""] * lines
        self.row = self.column = 0
        self.erased = 0
        """How often the screen was erased as a whole, which a person sees as a flicker."""

    def feed(self, text: str) -> None:
        while text:
            step = _STEP.match(text)
            assert step, f"unexpected {text[:20]!r}"
            text = text[step.end() :]
            self._do(step)

    def _do(self, step: re.Match[str]) -> None:
        parameters, command, control, shown = step.groups()
        if command == "H" and not parameters:
            self.row = self.column = 0
        elif command == "K" and not parameters:
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif command == "J" and not parameters:
            self.erased += (self.row, self.column) == (0, 0)
            self.lines[self.row] = self.lines[self.row][: self.column]
            self.lines[self.row + 1 :] = [""] * len(self.lines[self.row + 1 :])
        elif command:
            assert command == "m", f"unexpected {step[0]!r}"
        elif control == "\r":
            self.column = 0
        elif control == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines = [*self.lines[1:], ""]
                self.row -= 1
        else:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + shown + line[self.column + len(shown) :]
            self.column += len(shown)
            assert self.column <= self.columns, f"{shown!r} is broken by the terminal"

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip("\n")


class Terminal:
    """A terminal in which one command runs."""

    def __init__(self, words: list[str], columns: int, lines: int, environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            _size(0, columns, lines)
            os.execve(sys.executable, [sys.executable, "-m", "apvfio", *words], environment)
        self.screen = Screen(columns, lines)
        self.sent = ""
        self._partly = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.modes = termios.tcgetattr(self.fd)

    def until(self, fits: Callable[[str], bool]) -> str:
        """The screen as soon as it ``fits``."""
        deadline = time.monotonic() + _PATIENCE
        while not fits(str(self.screen)):
            assert time.monotonic() < deadline, f"in vain: {self.screen}"
            self._read(0.1)
        return str(self.screen)

    def settle(self, seconds: float) -> str:
        """What comes in the next ``seconds``."""
        before, deadline = len(self.sent), time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._read(0.05)
        return self.sent[before:]

    def resize(self, columns: int, lines: int) -> None:
        self.screen = Screen(columns, lines)
        _size(self.fd, columns, lines)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def end(self) -> int:
        """Its exit code, when it has ended."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                while self._read(0.1):
                    pass
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, "it does not end"

    def _read(self, seconds: float) -> bool:
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the command has ended
            return False
        self._partly += self._decoder.decode(data)
        # A sequence may be cut in two.
        cut = re.search(r"\x1b(\[[0-9;?]*)?$", self._partly)
        text = self._partly[: cut.start()] if cut else self._partly
        self._partly = self._partly[len(text) :]
        self.sent += text
        self.screen.feed(text)
        return bool(data)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextmanager
def terminal(*words: str, columns: int = 80, lines: int = 40, **variables: str) -> Iterator[Terminal]:
    """``apvfio`` with those words in a terminal of that size."""
    environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "LANG": "C.UTF-8", "PYTHONPATH": os.getcwd()}
    running = Terminal(list(words), columns, lines, environment | variables)
    try:
        yield running
    finally:
        running.close()


def _size(fd: int, columns: int, lines: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

# SPDX-License-Identifier: Apache-2.0
"""The process of apvfio at the destination that runs while the kernel migrates a guest to it.

While that process lives, apvfio refuses to change the destination's masks and overrides. The process ends
when its standard input ends or has been silent for `SILENCE`: if the process here dies or the connection
breaks, changes are allowed again. An ssh server does not reliably notice that a connection is cut.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from apvfio.mdev import programs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

END_OF_LETTER = b"\0"
"""Behind the letter on standard input: no XML has this byte."""
SILENCE = 60.0
"""Seconds without a beat, after which the destination takes the connection for cut."""
_BEAT = 5.0
_PIECE = 1 << 16
_LIMIT = 1 << 20
_LEAVING = 1.0


class Hold:
    """The process, begun for the guest of one letter. ProgramError if it cannot be started."""

    def __init__(
        self, words: Sequence[str], letter: bytes, more: Mapping[str, str], errors: IO[bytes]
    ) -> None:
        """``more`` is added to its environment; what it says to standard error goes to ``errors``."""
        self._process = programs.start(words, more=more, errors=errors)
        self._beaten = time.monotonic()
        self.output = b""
        """All that it has printed so far."""
        assert self._process.stdin
        with suppress(OSError):  # it has ended, which `answer` tells
            self._process.stdin.write(letter + END_OF_LETTER)
            self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The first line that is a JSON object; None if it ends, or says too much, without one.

        TimeoutError if neither happens in time.
        """
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        while len(self.output) <= _LIMIT:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError
            said = os.read(self._process.stdout.fileno(), _PIECE)
            if not said:
                break
            self.output += said
            if found := self._answers():
                return found[0]
        return None

    def beat(self) -> None:
        """Say, now and then, that this is still here."""
        assert self._process.stdin
        if time.monotonic() >= self._beaten + _BEAT:
            self._beaten = time.monotonic()
            with suppress(OSError, ValueError):
                os.write(self._process.stdin.fileno(), b".")

    def end(self, seconds: float) -> int | None:
        """Let the destination go; its exit code, None if it has not ended after ``seconds``."""
        if self._process.returncode is not None:
            return self._process.returncode
        try:
            # It closes standard input first.
            self.output += self._process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=_LEAVING)
            return None
        return self._process.returncode

    def last_answer(self) -> dict[str, Any] | None:
        """Return the last line that is a JSON object, None without one; at the end, the result."""
        return next(reversed(self._answers()), None)

    def _answers(self) -> list[dict[str, Any]]:
        """Each whole line that is a JSON object; a login may print text before."""
        found = []
        for line in self.output.split(b"\n")[:-1]:
            with suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return [answer for answer in found if isinstance(answer, dict)]


def await_end(stream: int, silence: float = SILENCE) -> None:
    """At the destination: wait until the file descriptor ``stream`` ends, or says nothing for so long."""
    with suppress(OSError):
        while select.select([stream], [], [], silence)[0] and os.read(stream, _PIECE):
            pass

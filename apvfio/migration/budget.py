# SPDX-License-Identifier: Apache-2.0
"""The time of one migration: one limit for all its steps; a part is reserved for undoing the migration."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARE = 3
"""The part of the limit that is reserved for undoing the migration: a third,"""
_RESERVE = 20.0
"""but no more than these seconds."""
_LAST = 10
"""The part of the limit that is reserved for the last questions, which a host may not answer: a tenth,"""
_AT_MOST = 3.0
"""but no more than these seconds."""
_BACK = 60.0
"""Seconds for the way back where there is no limit."""
_CALL = 5.0
"""Seconds for one question on the way back,"""
_LEAST = 1.0
"""and how many of them it has at least."""


class Budget:
    """How long a command may still take.

    The way there ends in time for the way back. `turn_back` begins that.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        """The limit for all of it; None for none."""
        self.returning = False
        """Whether the way back has begun."""
        self._clock = clock
        self._end = self._turn = inf
        if seconds is not None:
            end = clock() + seconds
            self._end = end - min(seconds / _LAST, _AT_MOST)
            self._turn = end - min(seconds / _SHARE, _RESERVE)

    def left(self) -> float:
        """Seconds until the limit: on the way there until it is time to turn back; never negative."""
        return max(0.0, self._turn - self._clock())

    def turn_back(self, seconds: float = _BACK) -> None:
        """Begin the way back, or go on with it: all the time that is left, but no more than ``seconds``."""
        self.returning = True
        self._turn = min(self._end, self._clock() + seconds)

    def for_call(self) -> float:
        """Seconds that one question or command may take.

        On the way back no one of them uses up the time, and where the guest is can still be asked at its end.
        """
        return max(_LEAST, min(self.left(), _CALL)) if self.returning else self.left()

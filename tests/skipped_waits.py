# SPDX-License-Identifier: Apache-2.0
"""A clock for the engine's wait for a guest that still has its device: the wait takes no time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


class Clock:
    """Stands for the module `time`: whoever sleeps finds the time gone by, at once."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        """Return the clock's time, with the time slept."""
        return time.monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        """Let that time have gone by."""
        self._slept += seconds


def skip_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait until a guest lets go of its device; how long it would have been counts as before."""
    monkeypatch.setattr("apvfio.engine.signs_of_life.time", Clock())

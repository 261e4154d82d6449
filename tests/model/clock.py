# SPDX-License-Identifier: Apache-2.0
"""Time that passes only when somebody sleeps or waits."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = 1000.0


class Clock:
    """What `time.monotonic`, `time.clock_gettime` and `time.sleep` are while it runs; one for each boot."""

    def __init__(self) -> None:
        self.now = START
        """Seconds since the boot."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What others do when somebody sleeps."""

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def clock_gettime(self, _clock: int) -> float:
        """Seconds, the same for each of the system's clocks."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass, and others do something."""
        self.now += seconds
        self.meanwhile()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Put it in the place of the real one."""
        with (
            mock.patch.object(time, "sleep", self.sleep),
            mock.patch.object(time, "monotonic", self.monotonic),
            mock.patch.object(time, "clock_gettime", self.clock_gettime),
        ):
            yield

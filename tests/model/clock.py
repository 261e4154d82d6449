# SPDX-License-Identifier: Apache-2.0
"""Time that passes only when somebody sleeps."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Clock:
    """What `time.monotonic` and `time.sleep` are while it runs."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._now = 1000.0
        self._meanwhile = meanwhile

    def monotonic(self) -> float:
        """Seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass, and others do something."""
        self._now += seconds
        self._meanwhile()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Put it in the place of the real one."""
        with (
            mock.patch.object(time, "sleep", self.sleep),
            mock.patch.object(time, "monotonic", self.monotonic),
        ):
            yield

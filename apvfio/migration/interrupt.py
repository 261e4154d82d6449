# SPDX-License-Identifier: Apache-2.0
"""A Ctrl-C in the midst of a migration is an error like another: it leads back."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptionError(ApvfioError):
    """Somebody has had enough."""


def interruptible() -> AbstractContextManager[None]:
    """The signals that end a program raise `InterruptionError`, once: what follows is the way back."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise InterruptionError("it was interrupted.")

    return _handled_by(interrupt)


def uninterrupted() -> AbstractContextManager[None]:
    """The same signals are ignored: what goes back shall arrive."""
    return _handled_by(signal.SIG_IGN)


@contextmanager
def _handled_by(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)

# SPDX-License-Identifier: Apache-2.0
"""Processes that tests start obey signals, whatever the parent of pytest ignores."""

from __future__ import annotations

import signal

_IGNORABLE = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)


def pytest_configure() -> None:
    """Handle the signals that are ignored by doing nothing.

    nohup, ``trap '' INT`` and a shell's background jobs ignore some. A new program inherits
    that, but no handler.
    """
    for number in _IGNORABLE:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)


def _nothing(_number: int, _frame: object) -> None:
    pass

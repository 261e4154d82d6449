# SPDX-License-Identifier: Apache-2.0
"""Times as people write them: a date, a time of today, or how long ago."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import datetime, time, timedelta

_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_OF_TODAY = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS = {"today": 0, "yesterday": 1}


def parse_time(text: str, now: datetime | None = None) -> float:
    """Seconds since 1970; ArgumentTypeError. Without a zone it is this machine's."""
    now = now or datetime.now().astimezone()
    # Without a zone: midnight and noon are not of one offset on the day that summer time ends.
    midnight = datetime.combine(now.date(), time())
    try:
        if ago := _AGO.fullmatch(text):
            return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
        if text in _DAYS:
            return (midnight - timedelta(days=_DAYS[text])).timestamp()
        if _OF_TODAY.fullmatch(text):
            return datetime.combine(midnight, time.fromisoformat(text)).timestamp()
        # Before Python 3.11 it knows no Z.
        return datetime.fromisoformat(re.sub("Z$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ArgumentTypeError(
            f"{text[:40]!r} is no time: write 2026-01-31, '2026-01-31 12:00', 12:00, today, or 2h, 3d for ago"
        ) from None


def format_time(seconds: float) -> str:
    """``2026-01-31 12:00:00``, in this machine's zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")

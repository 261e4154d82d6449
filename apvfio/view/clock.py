# SPDX-License-Identifier: Apache-2.0
"""Times for ``--json``, ISO 8601 in UTC with the offset, and for text, in this machine's time zone."""

from __future__ import annotations

import time
from datetime import datetime
from functools import cache


def utc(seconds: float) -> str:
    """Return seconds since 1970 as ``2026-01-31T11:00:00.000+00:00``."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03}+00:00"


def local(seconds: float) -> str:
    """Return seconds since 1970 as ``2026-01-31 12:00:00`` in this machine's zone, for a person."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def utc_of_boot_time(seconds: int) -> str | None:
    """Return `utc` of a time in seconds since the boot, None for 0, which means no time."""
    return utc(_boot() + seconds) if seconds else None


def local_of_boot_time(seconds: int) -> str:
    """Return `local` of a time in seconds since the boot, '' for 0, which means no time."""
    return local(_boot() + seconds) if seconds else ""


@cache
def _boot() -> float:
    # Once per process: two readings differ a little, and a lease's time must not.
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

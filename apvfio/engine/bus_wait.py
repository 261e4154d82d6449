# SPDX-License-Identifier: Apache-2.0
"""Wait for the AP bus to find its queues, and drivers for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.kernel.apply import scan
from apvfio.model.host import BUS, HOST_DRIVER
from apvfio.model.progress import no_progress

if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs
    from apvfio.model.progress import Progress

_NAP = 0.1
_QUIET = 1.0
"""Seconds without any change after which a queue that is still unbound is taken for one that shall be."""
COMPLETE = "(complete)"
"""How ``bindings`` ends once all queues that a scan has found have a driver (bus:bindings_show)."""


def wait_for_bus(sysfs: Sysfs, seconds: float, progress: Progress = no_progress) -> str | None:
    """Wait until all queues exist and are bound; return what ``bindings`` then reads, None without a bus.

    It reads `COMPLETE`, unless a queue stays unbound, or the host's driver, a module that may be loaded late
    in the boot, does not come in time. ``progress`` hears how far it is.
    """
    if not sysfs.exists(f"{BUS}/bindings"):
        return None
    deadline = time.monotonic() + seconds
    # A write waits for the scan that is under way, or starts one; before the first scan it does nothing
    # (bus:ap_bus_force_rescan). A card is announced before its queues are found.
    scan(sysfs)
    last, since = "", 0.0
    while True:
        now = time.monotonic()
        bindings = sysfs.read(f"{BUS}/bindings").strip()
        if bindings != last:
            last, since = bindings, now
            progress(f"waiting for the AP bus to find its queues, and drivers for them: {bindings}")
        quiet = now - since >= _QUIET and sysfs.exists(f"{BUS}/drivers/{HOST_DRIVER}")
        if bindings.endswith(COMPLETE) or quiet or now >= deadline:
            return bindings
        time.sleep(_NAP)

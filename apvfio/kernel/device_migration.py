# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel can take a guest's mediated device to another host: what a draft of vfio_ap offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import read_or
from apvfio.model.host import AP_MDEVS

if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs

FEATURES = f"{AP_MDEVS.parent}/features"
MIGRATABLE = "migratable"


def migrates_devices(sysfs: Sysfs) -> bool:
    """Whether vfio_ap names `MIGRATABLE` among its features; no version number tells it."""
    return MIGRATABLE in read_or(sysfs, FEATURES, "").split()

# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel can migrate a guest's mediated device: the feature of a draft of vfio_ap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import read_or
from apvfio.model.errors import HostError
from apvfio.model.host import AP_MDEVS

if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs

_FEATURES = f"{AP_MDEVS.parent}/features"
_MIGRATABLE = "migratable"


def migrates_devices(sysfs: Sysfs) -> bool:
    """Return whether vfio_ap has the feature "migratable"; no version number says so."""
    return _MIGRATABLE in read_or(sysfs, _FEATURES, "").split()


def not_migratable(where: str, remedy: str) -> HostError:
    """Return the error for a host, named ``where``, without that feature."""
    return HostError(f"{where} has no migratable in /sys/{_FEATURES}.", remedy=remedy)

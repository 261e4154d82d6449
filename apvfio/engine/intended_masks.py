# SPDX-License-Identifier: Apache-2.0
"""The mask bits that the host's configuration clears on purpose."""

from __future__ import annotations

from apvfio.model.errors import ApvfioError
from apvfio.model.host import ALL_BITS, MASK_NAMES, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS
from apvfio.store import masks_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.persistent_masks import StoredMasks


def has_boot_masks(sysfs: Sysfs) -> bool:
    """Whether a parameter of the module ``ap`` sets a mask; one that is not set reads (null)."""
    return any(_parameter(sysfs, name) not in ("", "(null)") for name in MASK_NAMES)


def intended_masks(system: System) -> MaskBits:
    """The bits that the stored masks clear; all bits where boot parameters set masks, or nobody can tell."""
    if has_boot_masks(system.sysfs):
        return ALL_BITS
    try:
        return cleared_in(masks_file.load(system.files))
    except ApvfioError:
        return ALL_BITS


def cleared_in(stored: StoredMasks) -> MaskBits:
    """The bits that stored masks clear."""
    return MaskBits(*(NO_IDS if ids is None else ALL_IDS - ids for ids in stored))


def _parameter(sysfs: Sysfs, name: str) -> str:
    try:
        return sysfs.read(f"module/ap/parameters/{name}").strip()
    except OSError:
        return ""

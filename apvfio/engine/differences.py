# SPDX-License-Identifier: Apache-2.0
"""The differences between a host and its ledger, and between active and intended masks."""

from __future__ import annotations

from apvfio.engine.deferred import is_deferred
from apvfio.engine.lease_end import has_vanished
from apvfio.engine.signs_of_life import Evidence
from apvfio.kernel.snapshot import read_or
from apvfio.model.errors import ApvfioError, printable
from apvfio.model.host import ALL_BITS, MASK_NAMES, MaskBits
from apvfio.plan.drift import drift
from apvfio.store import masks_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger


def differences(system: System, host: Host, ledger: Ledger, intended: MaskBits | None = None) -> list[str]:
    """Return how the host differs from ``ledger``, in sentences: `drift`, and guests that run no more.

    ``intended`` are the mask bits that are clear on purpose, those of the host's configuration if not given.
    """
    signs = Evidence(system)
    dead = [lease for lease in ledger.leases.values() if has_vanished(system, lease, signs)]
    left = "holds queues but does not run, and libvirt has not said when it ended: 'reconcile' returns them"
    intended = intended_masks(system) if intended is None else intended
    drifted = drift(host, ledger, intended, deferred=is_deferred(system.files))
    return [*(f"guest {printable(lease.guest)}: it {left}" for lease in dead), *drifted]


def has_boot_masks(sysfs: Sysfs) -> bool:
    """Whether a parameter of the module ``ap`` sets a mask; one that is not set reads (null)."""
    values = (read_or(sysfs, f"module/ap/parameters/{name}", "").strip() for name in MASK_NAMES)
    return any(value not in ("", "(null)") for value in values)


def intended_masks(system: System) -> MaskBits:
    """The bits that the stored masks clear; all bits where boot parameters set masks, or nobody can tell."""
    if has_boot_masks(system.sysfs):
        return ALL_BITS
    try:
        return masks_file.load(system.files).cleared
    except ApvfioError:
        return ALL_BITS

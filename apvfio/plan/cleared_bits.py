# SPDX-License-Identifier: Apache-2.0
"""Mask bits that are clear although nobody asked for it: another program cleared them."""

from __future__ import annotations

from apvfio.model.host import ALL_BITS, OVERRIDES, MaskBits
from apvfio.model.ids import union

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger


def cleared_by_others(host: Host, ledger: Ledger, intended: MaskBits) -> MaskBits:
    """The clear bits of ids that ``host`` has and that no lease, claim, mediated device or person needs.

    ``intended`` are the bits that the boot parameters or the stored masks clear. The ledger has those that
    ``apvfio masks`` cleared.
    """
    if host.mechanism == OVERRIDES:
        return MaskBits()
    cleared = ALL_BITS - host.masks
    needing = [*host.mdevs.values(), *(held.matrix for held in ledger.leases_and_claims())]
    needed = MaskBits(union(held.adapters for held in needing), union(held.domains for held in needing))
    there = MaskBits(host.adapters, host.domains)
    return (cleared - intended - ledger.cleared_by_admin - ledger.pending - needed) & there

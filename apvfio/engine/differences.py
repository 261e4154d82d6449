# SPDX-License-Identifier: Apache-2.0
"""How a host differs from its ledger."""

from __future__ import annotations

from apvfio.engine.deferred import is_deferred
from apvfio.engine.intended_masks import intended_masks
from apvfio.engine.lease_end import has_vanished
from apvfio.engine.signs_of_life import Evidence
from apvfio.model.errors import printable
from apvfio.plan.drift import drift

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host, MaskBits
    from apvfio.model.ledger import Ledger


def differences(
    system: System,
    host: Host,
    ledger: Ledger,
    intended: MaskBits | None = None,
) -> list[str]:
    """Return how the host differs from ``ledger``, in sentences: `drift`, and guests that run no more.

    ``intended`` are the mask bits that are clear on purpose, those of the host's configuration if not given.
    """
    signs = Evidence(system)
    dead = [lease for lease in ledger.leases.values() if has_vanished(system, lease, signs)]
    left = "holds queues but does not run, and libvirt has not said when it ended: 'reconcile' returns them"
    intended = intended_masks(system) if intended is None else intended
    drifted = drift(host, ledger, intended, deferred=is_deferred(system.files))
    return [*(f"guest {printable(lease.guest)}: it {left}" for lease in dead), *drifted]

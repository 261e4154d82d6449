# SPDX-License-Identifier: Apache-2.0
"""What s390-tools' ap-check checks when mdevctl creates or defines a device, with the same sentences.

The sentences are the same because people and scripts know them: a queue is ``10.27``, in decimal
(ap-check.c). One comparison is missing: ap-check demands that the masks have freed the queues already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import ConflictError, RequestError, printable
from apvfio.model.host import ALL_BITS
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.model.owners import GUEST, mdev_owner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.persistent_masks import StoredMasks
    from apvfio.model.text import WarningText


def require_startable(mdev: str, matrix: Matrix, host: Host, ledger: Ledger) -> None:
    """RequestError or ConflictError unless the device ``mdev`` can be made with ``matrix``."""
    if matrix.control_domains and not matrix.domains:
        raise RequestError("At least one usage domain must be specified.", remedy="Assign one.")
    for uuid, held in sorted(host.mdevs.items()):
        shared = list(matrix.overlap(held).queues()) if uuid != mdev else []
        if shared:
            owner = mdev_owner(uuid, ledger)
            whose = f" (guest {printable(owner.name)})" if owner.kind == GUEST else ""
            raise ConflictError(
                f"{_these(shared)} already in use by {uuid}{whose}.",
                queues=shared,
                remedy="Stop that one, or assign other queues.",
            )


def free_by_masks(matrix: Matrix, host: Host) -> str:
    """Which mask keeps all of ``matrix`` from the host already, '' if some of its queues are the host's.

    A rectangle is free as a whole only if all its adapters are clear, or all its domains.
    """
    if not matrix.adapters & host.apmask:
        return BY_ADAPTERS
    return "" if matrix.domains & host.aqmask else BY_DOMAINS


def require_definable(mdev: str, matrix: Matrix, autostarted: Mapping[str, Matrix]) -> None:
    """ConflictError if ``mdev``, which starts at boot, needs queues of another such device."""
    for uuid, claimed in sorted(autostarted.items()):
        shared = list(matrix.overlap(claimed).queues()) if uuid != mdev else []
        if shared:
            raise ConflictError(
                f"{_these(shared)} is defined for autostart by {uuid}.",
                queues=shared,
                remedy="Define one of the two without autostart, or with other queues.",
            )


def not_yet_free_at_boot(matrix: Matrix, stored: StoredMasks) -> WarningText:
    """A sentence on queues that the stored masks leave to the host, '' if there are none or no masks."""
    if stored.apmask is None and stored.aqmask is None:
        return ""
    queues = list(filter(stored.filled(ALL_BITS).give_host, matrix.queues()))
    if not queues:
        return ""
    return (
        f"{_these(queues)} is not defined for vfio_ap-passthrough use by the persistent ap bus mask "
        "settings: the start of the device will free it."
    )


def _these(queues: list[Apqn]) -> str:
    more = f" (and {len(queues) - 1} more)" if len(queues) > 1 else ""
    return f"APQN {queues[0].adapter}.{queues[0].domain}{more}"

# SPDX-License-Identifier: Apache-2.0
"""Undo changes of running guests that were not committed: each device gets its former matrix."""

from __future__ import annotations

from apvfio.kernel.apply import apply_steps
from apvfio.kernel.errnos import is_lost
from apvfio.kernel.snapshot import read_host, read_matrix
from apvfio.model.errors import ApvfioError, KernelRefusedError
from apvfio.model.host import HOST_DRIVER
from apvfio.model.ledger import CHANGING
from apvfio.model.matrix import Matrix
from apvfio.plan.steps import reassignment_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Sysfs
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.step import Step


def roll_back(sysfs: Sysfs, ledger: Ledger, host: Host) -> tuple[Ledger, list[Step]]:
    """Undo the live changes that are no longer under way; return the ledger and the steps taken.

    What cannot be undone stays as the device has it, and belongs to the guest. No error here keeps others
    from their queues: what fails for another reason is tried again by the next call.
    """
    steps, restored = [], []
    for lease in ledger.leases.values():
        if lease.state != CHANGING or lease.before or lease.mdev not in host.mdevs:
            continue
        undoing = list(reassignment_steps(lease, host))
        steps += undoing
        restored.append(_restored(sysfs, lease, undoing))
    return ledger.with_leases(restored), steps


def _restored(sysfs: Sysfs, lease: Lease, steps: list[Step]) -> Lease:
    """The lease as its device is when the steps have been tried."""
    try:
        apply_steps(sysfs, steps)
        refused = False
    except KernelRefusedError as error:
        refused = is_lost(error)
    except ApvfioError:
        return lease
    try:
        # Of a host with many devices only this one is read, unless that is not enough.
        if read_matrix(sysfs, lease.mdev) == lease.matrix:
            return lease.committed()
        host = read_host(sysfs) if refused else None
    except (ApvfioError, OSError):
        return lease
    there = host.mdevs.get(lease.mdev, Matrix()) if host else Matrix()
    return lease._replace(matrix=there).committed() if host and _is_lost(lease, host) else lease


def _is_lost(lease: Lease, host: Host) -> bool:
    """Whether something it had is the host's, another device's or gone by now; and something it has left."""
    others = [matrix for uuid, matrix in host.mdevs.items() if uuid != lease.mdev]
    gone = any(
        host.drivers.get(queue, HOST_DRIVER) == HOST_DRIVER or any(matrix.holds(queue) for matrix in others)
        for queue in lease.matrix.queues()
    )
    return gone and not host.mdevs.get(lease.mdev, Matrix()).empty

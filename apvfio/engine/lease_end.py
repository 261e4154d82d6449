# SPDX-License-Identifier: Apache-2.0
"""When a lease ends: its guest has stopped or disappeared, its device is gone, or its start has failed."""

from __future__ import annotations

from apvfio.model.ledger import CHANGING, ENDING, HELD, STARTING
from apvfio.store.processes import now, should_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.engine.signs_of_life import Evidence
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease


def changed_lease(
    system: System, lease: Lease, host: Host, signs: Evidence, stopped: Callable[[Lease], bool]
) -> Lease | None:
    """Return ``lease`` with its new state, None if nothing has changed.

    A lease ends in three cases. Its guest has stopped: a record says so, or no process of the guest is left.
    Its device was removed: the guest has lost the queues, and a new device would not bring them back. It is
    still starting: the call that started it has died, and libvirt has counted that as a failed start. No
    lease ends while a sign shows that its guest has the device.
    """
    if lease.kernel_move and not system.lives(lease.kernel_move):
        settled = lease.settled(host.mdevs.get(lease.mdev))
        return changed_lease(system, settled, host, signs, stopped) or settled
    gone, died = lease.mdev not in host.mdevs, lease.state == STARTING
    lost = gone and lease.state in (HELD, CHANGING)
    # A guest that runs has nothing of a start that died while it made the device.
    half_made = died and host.mdevs.get(lease.mdev) != lease.matrix
    if lost or died or lease.state == ENDING or stopped(lease):
        if gone or half_made or not signs.holder(lease):
            return lease._replace(state=ENDING, before=None)
        if died or lease.state == ENDING:
            return lease._replace(state=HELD, before=None)
    if lease.before and not system.lives(lease.before.changer):
        return lease.rolled_back()
    return lease._replace(state=ENDING) if has_vanished(system, lease, signs) else None


def has_vanished(system: System, lease: Lease, signs: Evidence) -> bool:
    """Return whether the guest should run and nothing shows that it does: libvirt never reported its end."""
    return system.knows_processes and should_run(lease, now()) and not signs.holder(lease)

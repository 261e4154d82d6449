# SPDX-License-Identifier: Apache-2.0
"""Bring a loaded ledger up to date with the host and its processes."""

from __future__ import annotations

from apvfio.engine.signs_of_life import Evidence
from apvfio.model.ledger import CHANGING, ENDING, HELD, STARTING
from apvfio.plan.steps import with_relied_on_mask, with_retaken, without_returned
from apvfio.store.processes import now, should_run
from apvfio.store.stop_records import ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger


def bring_up_to_date(system: System, ledger: Ledger, host: Host, evidence: Evidence | None = None) -> Ledger:
    """Return ``ledger``, as it was loaded under the lock, in accordance with ``host`` and its processes.

    A live change whose process has ended is rolled back, a claim ends with the mdevctl that it was made for,
    and a pending return that somebody else has made is struck out.
    """
    signs, stopped = evidence or Evidence(system), ended(system)
    changed = [
        new for lease in ledger.leases.values() if (new := _renewed(system, lease, host, signs, stopped))
    ]
    broken = [claim.mdev for claim in ledger.claims.values() if not system.lives(claim.process)]
    ledger = ledger.with_leases(changed).without_claims(*broken)
    return with_retaken(without_returned(with_relied_on_mask(ledger, host), host), host)


def _renewed(
    system: System, lease: Lease, host: Host, signs: Evidence, stopped: Callable[[Lease], bool]
) -> Lease | None:
    """Return what has become of ``lease``, None if nothing has.

    It ends if its guest has stopped, by record or because no process of it is left; if somebody has removed
    its device, since the guest has lost the queues and a new device would not bring them back; and if it is
    still starting, since the call that started it has died and libvirt has counted that as a failed start.
    No lease ends while something shows that its guest has the device.
    """
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

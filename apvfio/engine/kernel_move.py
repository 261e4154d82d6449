# SPDX-License-Identifier: Apache-2.0
"""A guest that the kernel migrates with its device: no mask or override changes on both hosts meanwhile.

The kernel's draft allows no change of a mask or an override on either host while the state of a device is
transferred. The guest's lease names the process that runs the migration, and apvfio refuses such changes as
long as that process lives. Guests can stop meanwhile; their queues are returned afterwards.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.engine.carry_out import carry_out, carry_out_rest
from apvfio.engine.deferred import Pace
from apvfio.engine.state import read_ledger
from apvfio.events import record
from apvfio.kernel.snapshot import read_matrix
from apvfio.model.errors import ApvfioError, ConflictError, printable
from apvfio.model.ledger import HELD
from apvfio.model.progress import no_progress
from apvfio.model.step import ASSIGN, CREATE, REMOVE
from apvfio.plan.partial_return import limit_returns
from apvfio.plan.steps import pending_steps
from apvfio.store import stop_records

if TYPE_CHECKING:
    from apvfio.engine.carry_out import Outcome
    from apvfio.kernel.seam import System
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.matrix import Matrix
    from apvfio.model.process import Process
    from apvfio.model.progress import Progress
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan

_ALLOWED = (REMOVE, CREATE, ASSIGN)
"""What a start may do meanwhile: create its device."""


def require_still(ledger: Ledger) -> None:
    """ConflictError if a migration holds masks and overrides still; ``ledger`` is brought up to date."""
    for lease in ledger.moving():
        assert lease.kernel_move
        raise ConflictError(
            "masks and overrides cannot be changed while the kernel migrates guest "
            f"{printable(lease.guest)} (process {lease.kernel_move.pid}).",
            remedy="Try again when that migration is over.",
        )


def without_moves(plan: Plan, host: Host) -> Plan:
    """The ``plan`` of a start without its returns; ConflictError if it changes a mask or an override."""
    steps = pending_steps(limit_returns(plan.ledger, host, 0), host)
    if any(step.op not in _ALLOWED for step in steps):
        require_still(plan.ledger)
    return plan._replace(steps=steps)


def begin_move(system: System, guest_uuid: str, matrix: Matrix, mover: Process) -> None:
    """Hold masks and overrides still for the guest that holds ``matrix``, until ``mover`` has ended.

    ConflictError if it does not hold that, or if something on this host is being changed just now.
    """
    with system.lock():
        host, found, ledger = read_ledger(system)
        lease = next((one for one in ledger.of_guest(guest_uuid) if one.state == HELD), None)
        if lease is None or lease.matrix != matrix or host.mdevs.get(lease.mdev) != matrix:
            raise ConflictError("its queues have changed since they were compared.", remedy="Try again.")
        busy = [one.guest for one in ledger.leases.values() if one.live_change or one.state != HELD]
        if busy or ledger.claims:
            who = f"guest {printable(busy[0])}" if busy else "a mediated device"
            raise ConflictError(f"the queues of {who} are being changed.", remedy="Try again later.")
        record.save(system, ledger.with_lease(lease._replace(kernel_move=mover)), found)


def end_move(system: System, guest_uuid: str, progress: Progress = no_progress) -> Outcome:
    """Allow changes of masks and overrides again, and make the returns that have waited for that.

    The lease becomes what the guest's device has, which came from the other host with the guest.
    """
    pace = Pace(progress=progress)
    with system.lock():
        host, found, ledger = read_ledger(system)
        ended = [
            lease.settled(host.mdevs.get(lease.mdev))
            for lease in ledger.of_guest(guest_uuid)
            if lease.kernel_move
        ]
        first = carry_out(system, host, found, ledger.with_leases(ended), pace)
    return carry_out_rest(system, first, pace)


def arrive(system: System, found: Ledger, request: Request) -> Lease | None:
    """Return the lease of an expected guest that comes with its device, else None; under the lock.

    The guest keeps exactly the queues that are held for it, whatever its annotation requests. ConflictError
    if its device has other queues by now.
    """
    lease = found.leases.get(request.mdev)
    if lease is None or lease.uuid != request.guest_uuid or lease.state != HELD:
        return None
    stopped = stop_records.of_guest(system, lease.uuid)
    if not lease.expected or any(stop.ends(lease) for stop in stopped):
        return None
    there: Matrix | None = None
    with suppress(ApvfioError, OSError):
        there = read_matrix(system.sysfs, lease.mdev)
    if there != lease.matrix:
        raise ConflictError(
            f"its mediated device {lease.mdev} does not have what it has on its other host.",
            guest=lease.guest,
            queues=lease.matrix.queues(),
            remedy="Migrate it again.",
        )
    arriving = lease._replace(expected=False, since=stop_records.beginning(lease.uuid, stopped))
    record.save(system, found.with_lease(arriving), found)
    return arriving

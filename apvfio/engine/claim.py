# SPDX-License-Identifier: Apache-2.0
"""Free queues for a mediated device that mdevctl creates, and return them after its removal.

There is no lease: an existing device keeps its queues from the host by itself, like every device that apvfio
did not create. Until the device exists, a claim keeps the queues free. The return is pending from the start,
and made when nobody needs the queues any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.engine.carry_out import carry_out
from apvfio.engine.deferred import Pace
from apvfio.engine.plan_start import plan_start, with_offline_queues
from apvfio.engine.state import read_state
from apvfio.engine.verify import readable
from apvfio.events import record
from apvfio.kernel.apply import bind_queues
from apvfio.kernel.snapshot import read_driver, read_host
from apvfio.model.errors import ApvfioError, HostError
from apvfio.model.host import OVERRIDES, VFIO_DRIVER
from apvfio.model.ledger import Claim
from apvfio.model.process import Process
from apvfio.model.request import Request
from apvfio.model.text import some_queues
from apvfio.plan.ap_check import free_by_masks, require_startable
from apvfio.plan.availability import require_no_rival
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.presence import absent_queues
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Matrix


class MasksOnlyError(HostError):
    """Queues were requested by masks on a host that moves them by ``driver_override``."""


def make_claim(
    system: System, mdev: str, matrix: Matrix, process: Process, *, masks_only: bool = False
) -> tuple[str, ...]:
    """Free ``matrix`` for the device ``mdev`` that ``process`` will create; return the warnings.

    An existing device gets nothing: mdevctl will refuse to create it again. The claim is planned like a
    guest's start, with the same errors, after which nothing has changed. MasksOnlyError if ``masks_only`` is
    set and the host uses overrides. If the masks leave all of ``matrix`` free, nothing is taken from the
    host, and only ap-check's checks are made: adapters may be absent.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        seen = read_state(system, found)
        require_startable(mdev, matrix, seen.host, seen.ledger)
        if mdev in seen.host.mdevs or matrix.empty:
            return ()
        if masks_only and mechanism_of(*seen) == OVERRIDES:
            raise MasksOnlyError("queues are moved by driver_override on this host.")
        seen = seen._replace(ledger=_without_own(seen.ledger, mdev, process))
        request = Request("", "", mdev, matrix, source="its definition")
        if freed_by := free_by_masks(matrix, seen.host):
            require_no_rival(request, seen.host, seen.ledger)
            record.save(system, seen.ledger.with_claim(Claim(mdev, matrix, freed_by, process)), found)
            return ()
        absent = absent_queues(matrix, seen.host)
        if absent and not any(map(seen.host.masks_give_host, absent)):
            seen = seen._replace(policy=seen.policy._replace(over_provisioning=True))
        plan = plan_start(system, request, seen)
        ledger = with_offline_queues(plan, seen.host, system).without_leases(mdev)
        ledger = ledger.with_claim(Claim(mdev, matrix, plan.chosen.name, process))
        try:
            carry_out(system, seen.host, found, ledger, Pace())
            _require_bound(system, matrix)
        except (ApvfioError, OSError) as error:
            _give_up(system, mdev)
            raise readable(error) from None
        return plan.warnings


def end_claim(system: System, mdev: str, process: Process) -> None:
    """``process`` has made its device, or has failed to."""
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        after = _without_own(found, mdev, process)
        if after != found:
            record.save(system, after, found)


def _without_own(ledger: Ledger, mdev: str, process: Process) -> Ledger:
    claimed = ledger.claims.get(mdev)
    return ledger.without_claims(mdev) if claimed and claimed.process == process else ledger


def _require_bound(system: System, matrix: Matrix) -> None:
    """A mask write does not tell of queues that found no driver, and the device would lack them."""
    host = read_host(system.sysfs)
    there = [queue for queue in matrix.queues() if queue in host.drivers]
    bind_queues(system.sysfs, there)
    strayed = [queue for queue in there if read_driver(system.sysfs, queue) != VFIO_DRIVER]
    if strayed:
        raise ApvfioError(
            f"the driver vfio_ap did not get {some_queues(strayed)}.",
            queues=strayed,
            remedy="See 'apvfio queues' for their state.",
        )


def _give_up(system: System, mdev: str) -> None:
    try:
        found = ledger_file.load(system.files, system.boot_id)
        host = read_host(system.sysfs)
        carry_out(system, host, found, found.without_claims(mdev), Pace(at_once=True))
    except ApvfioError:
        # The claim ends with its process, and the next call returns the queues; the first error is reported.
        return

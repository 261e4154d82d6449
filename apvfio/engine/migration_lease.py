# SPDX-License-Identifier: Apache-2.0
"""Leases of guests that a migration brings, or may bring back."""

from __future__ import annotations

from apvfio.engine.carry_out import finish_ended
from apvfio.events import record
from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import HELD
from apvfio.store import ledger_file, stop_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import System


def expect_arrival(system: System, guest_uuid: str) -> bool:
    """Whether the lease of the guest ``guest_uuid`` awaits it from another host; from now on it does not.

    The guest arrives without its device, which is plugged in once it runs here.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        ledger, stopped = found, stop_records.of_guest(system, guest_uuid)
        for lease in found.of_guest(guest_uuid):
            if lease.expected and lease.state == HELD and not any(stop.ends(lease) for stop in stopped):
                # It has as long from now to come up as any other guest.
                arriving = lease._replace(expected=False, since=stop_records.beginning(guest_uuid, stopped))
                ledger = ledger.with_lease(arriving)
        if ledger != found:
            record.save(system, ledger, found)
        with suppress(ApvfioError):
            finish_ended(system)
    return ledger != found


def await_device(system: System, guest_uuid: str, *, awaits: bool) -> None:
    """Record that the guest's device is out for a migration, and its lease stays, or that this is over.

    Nor does the kernel migrate it then.
    """
    with system.lock():
        found = ledger_file.load(system.files, system.boot_id)
        ledger = found
        for lease in found.of_guest(guest_uuid):
            if lease.state == HELD:
                ledger = ledger.with_lease(lease._replace(expected=awaits, kernel_move=None))
        if ledger != found:
            record.save(system, ledger, found)

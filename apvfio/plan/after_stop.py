# SPDX-License-Identifier: Apache-2.0
"""A host as it will be when a guest that runs has stopped: what its next start is planned on."""

from __future__ import annotations

from apvfio.model.host import HOST_DRIVER, VFIO_DRIVER, Host
from apvfio.model.ledger import Ledger
from apvfio.plan.steps import with_all_returned


def after_stop(ledger: Ledger, host: Host, guest_uuid: str) -> tuple[Ledger, Host]:
    """The ledger and the host after the release of what the guest ``guest_uuid`` holds.

    What other devices keep from the host stays pending, as in `apvfio.plan.steps.pending_steps`.
    """
    ledger = ledger.with_ending(guest_uuid)
    left = with_all_returned(ledger, host)
    bits = ledger.pending - left.pending
    returned = {queue: before for queue, before in ledger.overrides.items() if queue not in left.overrides}
    overrides = {queue: driver for queue, driver in {**host.overrides, **returned}.items() if driver}
    to_remove = ledger.mdevs_to_remove()
    after = host._replace(
        apmask=host.apmask | bits.apmask,
        aqmask=host.aqmask | bits.aqmask,
        overrides=overrides,
        mdevs={uuid: matrix for uuid, matrix in host.mdevs.items() if uuid not in to_remove},
    )
    drivers = {
        queue: HOST_DRIVER
        if driver == VFIO_DRIVER and after.masks_give_host(queue) and overrides.get(queue) != VFIO_DRIVER
        else driver
        for queue, driver in host.drivers.items()
    }
    ended = [lease.mdev for lease in ledger.of_guest(guest_uuid)]
    return left.without_leases(*ended), after._replace(drivers=drivers)

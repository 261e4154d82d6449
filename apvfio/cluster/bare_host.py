# SPDX-License-Identifier: Apache-2.0
"""A host and its ledger as they would be if some guests had never held a queue.

A stop would give another result: after a stop, a return can stay pending because another guest's device needs
the bit. Here all traces of the guests are removed, so that the result does not depend on what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.host import HOST_DRIVER, UNBOUND, VFIO_DRIVER
from apvfio.model.matrix import covering

if TYPE_CHECKING:
    from collections.abc import Collection

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn


def without_guests(host: Host, ledger: Ledger, guests: Collection[str]) -> tuple[Host, Ledger]:
    """Return ``host`` and ``ledger`` as if none of ``guests``, by their UUIDs, had ever held a queue.

    A mediated device that apvfio has not created stays: it outlives its guest.
    """
    theirs = [lease for lease in ledger.leases.values() if lease.uuid in guests]
    left = ledger.without_leases(*(lease.mdev for lease in theirs))
    returned = ledger.pending - left.needed_bits()
    needed = left.needed_queues()
    before = {queue: driver for queue, driver in ledger.overrides.items() if queue not in needed}
    overrides = {queue: driver for queue, driver in {**host.overrides, **before}.items() if driver}
    created = {lease.mdev for lease in theirs if lease.created}
    masks = host.masks | returned
    held = covering(lease.matrix for lease in theirs)

    def driver_of(queue: Apqn, driver: str) -> str:
        # While a queue changes its owner, it is unbound for a moment.
        moving = driver == UNBOUND and (returned.touch(queue) or queue in before or held(queue))
        given = masks.give_host(queue) and overrides.get(queue) != VFIO_DRIVER
        return HOST_DRIVER if given and (moving or driver == VFIO_DRIVER) else driver

    bare = host._replace(
        apmask=masks.apmask,
        aqmask=masks.aqmask,
        overrides={queue: driver for queue, driver in overrides.items() if queue in host.drivers},
        mdevs={uuid: matrix for uuid, matrix in host.mdevs.items() if uuid not in created},
        drivers={queue: driver_of(queue, driver) for queue, driver in host.drivers.items()},
    )
    return bare, left._replace(
        pending=ledger.pending & left.needed_bits(),
        overrides={queue: driver for queue, driver in ledger.overrides.items() if queue in needed},
        last_given={uuid: matrix for uuid, matrix in ledger.last_given.items() if uuid not in guests},
    )

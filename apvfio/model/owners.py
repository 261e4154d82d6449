# SPDX-License-Identifier: Apache-2.0
"""The present owner of each queue: the host, a guest, a foreign mediated device, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import UNBOUND as NO_DRIVER
from apvfio.model.host import VFIO_DRIVER

if TYPE_CHECKING:
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn


class Owner(NamedTuple):
    """One owner. ``name`` is a guest's name, which is untrusted text, or an mdev's uuid."""

    kind: str
    name: str = ""
    mdev: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


HOST = Owner("host")
FREE = Owner("free")
"""Bound to vfio_ap and in no mediated device: to be had."""
UNBOUND = Owner("unbound")
"""No driver has it, whatever the masks say."""

GUEST = "guest"
MDEV = "mdev"
"""A mediated device that is none of apvfio's."""


def owners(host: Host, ledger: Ledger) -> dict[Apqn, Owner]:
    """The owner of every queue of ``host``. The driver decides, then the mdev that vfio_ap serves.

    A device that mdevctl is about to make counts as there.
    """
    claimed = {uuid: claim.matrix for uuid, claim in ledger.claims.items()}
    held = {
        queue: mdev_owner(uuid, ledger)
        for uuid, matrix in sorted({**claimed, **host.mdevs}.items())
        for queue in matrix.queues()
    }
    return {queue: _owner(driver, held.get(queue, FREE)) for queue, driver in sorted(host.drivers.items())}


def mdev_owner(uuid: str, ledger: Ledger) -> Owner:
    """Whose the mediated device ``uuid`` is."""
    lease = ledger.leases.get(uuid)
    return Owner(GUEST, lease.guest, uuid) if lease else Owner(MDEV, uuid, uuid)


def _owner(driver: str, holder: Owner) -> Owner:
    if driver == NO_DRIVER:
        return UNBOUND
    return holder if driver == VFIO_DRIVER else HOST

# SPDX-License-Identifier: Apache-2.0
"""Whether a device's uuid is a guest's own, before the guest is given it."""

from __future__ import annotations

from apvfio.errors import ApvfioError, ConflictError, printable
from apvfio.guest_xml import device_uuids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.guests import Guest
    from apvfio.serving import Scene

_REMEDY = "Give it a vfio-ap <hostdev> with a uuid of your own (uuidgen) in 'virsh edit'."


def require_not_anothers(mdev: str, guest: Guest, others: Iterable[Guest]) -> None:
    """ConflictError if another of libvirt's guests has a device with the uuid ``mdev``."""
    for other in others:
        if other.uuid != guest.uuid and mdev in _devices(other):
            raise ConflictError(
                f"the uuid {mdev} of the device made for it is that of guest {printable(other.name)}.",
                guest=guest.name,
                remedy=_REMEDY,
            )


def require_not_foreign(mdev: str, guest: Guest, seen: Scene) -> None:
    """ConflictError if this host has a device with the uuid ``mdev`` that is not the guest's."""
    lease = seen.ledger.leases.get(mdev)
    if (lease and lease.uuid != guest.uuid) or (lease is None and mdev in seen.host.mdevs):
        whose = f"guest {printable(lease.guest)}" if lease else "somebody else, who made it"
        raise ConflictError(
            f"the mediated device {mdev}, made for it, is held by {whose}.",
            guest=guest.name,
            remedy=_REMEDY,
        )


def _devices(guest: Guest) -> set[str]:
    found = set()
    for live in (False, True):
        if guest.active if live else guest.persistent:
            try:
                found |= device_uuids(guest.xml(live=live))
            except ApvfioError:  # it has ended meanwhile
                continue
    return found

# SPDX-License-Identifier: Apache-2.0
"""The uuid of a guest's mediated device: no two guests may have the same one.

A clone has the device of its original: virt-clone copies annotation and device. If both are started, the
second start is refused.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.xml_editor import device_uuids, own_mdevs
from apvfio.model.errors import ApvfioError, ConflictError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apvfio.engine.state import State
    from apvfio.libvirt.guests import Guest


class DeviceChoice(NamedTuple):
    """The mediated device that a guest's definition will have."""

    uuid: str | None
    """None if it has none."""
    before: str | None
    """The one that it has now."""
    shared_with: str = ""
    """Another guest that has it as well, which is why this one gets its own."""

    @property
    def new(self) -> str | None:
        """Return the uuid to write into the definition, None if the definition stays as it is."""
        return None if self.uuid == self.before else self.uuid

    def words(self, guest: str, *, dry_run: bool) -> str:
        """What to report about the device of ``guest`` if it is, or would be, replaced, else ''."""
        if self.before is None or self.new is None:
            return ""
        if self.shared_with:
            return (
                f"guest {printable(self.shared_with)} has the mediated device {self.before} as well: "
                f"guest {printable(guest)} {'would get' if dry_run else 'gets'} its own, {self.uuid}"
            )
        return (
            f"the mediated device {self.before} {'would be' if dry_run else 'is'} replaced with {self.uuid}"
        )

    def as_json(self) -> dict[str, object]:
        """The choice as ``guest set --json`` prints it."""
        return {"mdev": self.uuid, "before": self.before, "shared_with": self.shared_with or None}


class OtherDevices(NamedTuple):
    """The mediated devices that a guest must not have."""

    guests: dict[str, str]
    """Those of other guests, by libvirt or by a lease: their uuids, and the name of one such guest."""
    foreign: frozenset[str]
    """Those on the host that belong to no guest known."""


def other_devices(guest: Guest, guests: Iterable[Guest], seen: State | None) -> OtherDevices:
    """Return the known devices of other guests; without ``seen`` only those that libvirt knows."""
    named = {mdev: other.name for other in guests if other.uuid != guest.uuid for mdev in _devices(other)}
    if seen is None:
        return OtherDevices(named, frozenset())
    leases = seen.ledger.leases
    named |= {mdev: lease.guest for mdev, lease in leases.items() if lease.uuid != guest.uuid}
    return OtherDevices(named, frozenset(uuid for uuid in seen.host.mdevs if uuid not in leases))


def sharer(mdev: str, guest_uuid: str, others: OtherDevices) -> str:
    """The name of the guest that ``mdev`` belongs to rather than to the guest ``guest_uuid``; '' if none."""
    return "" if mdev in own_mdevs(guest_uuid) else others.guests.get(mdev, "")


def made_for(mdev: str, guests: Iterable[Guest]) -> Guest | None:
    """Return the guest for which the device ``mdev`` was made, None if it is none of ``guests``."""
    return next((guest for guest in guests if mdev in own_mdevs(guest.uuid)), None)


def new_device(guest: Guest, others: OtherDevices, but: str | None = None) -> str:
    """The uuid of a device for ``guest`` that nobody has, and that is not ``but``."""
    for mdev in own_mdevs(guest.uuid):
        if mdev not in others.guests and mdev not in others.foreign and mdev != but:
            return mdev
    sentence = "every uuid that apvfio would give its mediated device is already in use."
    remedy = "Give it a vfio-ap <hostdev> with a uuid of your own (uuidgen) in 'virsh edit'."
    raise ConflictError(sentence, guest=guest.name, remedy=remedy)


def _devices(guest: Guest) -> set[str]:
    found = set()
    reads: list[Callable[[], bytes]] = [guest.xml, guest.next_xml] if guest.persistent else []
    if guest.active:
        reads.append(partial(guest.xml, live=True))
    for read in reads:
        try:
            found |= device_uuids(read())
        except ApvfioError:  # it has ended meanwhile
            continue
    return found

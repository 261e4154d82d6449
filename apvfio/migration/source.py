# SPDX-License-Identifier: Apache-2.0
"""Before a guest is migrated: which one it is, what it has, and whether it would have as much there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import parse_device, request_of
from apvfio.domain.xml_editor import minimal_xml
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import hotplug
from apvfio.migration.compare_queues import compare, read_equipment
from apvfio.migration.stages import runs_nowhere
from apvfio.model.errors import ApvfioError, ConflictError, RequestError, printable
from apvfio.model.ledger import HELD
from apvfio.model.matrix import Matrix
from apvfio.plan.secure_execution import require_migratable
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest, Guests
    from apvfio.migration.hosts import OtherHost, Prospect
    from apvfio.model.ledger import Lease
    from apvfio.model.text import WarningText

_LONGEST = 300


class Traveller(NamedTuple):
    """A guest to be migrated."""

    name: str
    """Untrusted text."""
    uuid: str
    letter: bytes
    """What either host needs to know of it."""
    queues: Matrix
    """What it has here, empty if it runs at the destination."""


def find(system: System, here: Guests, there: Guests, name: str) -> Traveller:
    """The guest ``name``, which runs here, or at the destination if it was migrated before.

    RequestError if it runs at neither; ConflictError if what it holds here is changing just now, or the
    destination has another guest of that name.
    """
    guest = _running(here, name)
    if guest is None:
        guest = _running(there, name)
        if guest is None:
            raise runs_nowhere().for_guest(name)
        return Traveller(name, guest.uuid, minimal_xml(guest.xml(live=True), _device(guest)), Matrix())
    try:
        _require_no_namesake(there, guest)
        lease = _lease(system, guest)
        device = hotplug.attached(guest)
        if lease and device not in (None, lease.mdev):
            raise ConflictError(
                f"its device {device} was not given to it by apvfio.", remedy="Unplug that device first."
            )
        mdev, queues = (lease.mdev, lease.matrix) if lease else (None, Matrix())
        return Traveller(name, guest.uuid, minimal_xml(guest.xml(live=True), mdev), queues)
    except ApvfioError as error:
        raise error.for_guest(name) from None


def preview(
    system: System, traveller: Traveller, other: OtherHost, *, other_keys: bool
) -> tuple[Prospect, list[WarningText]]:
    """What the destination would do for the guest, and what to warn of; errors say why it cannot go there.

    ``other_keys`` allows for other master keys there.
    """
    request = request_of(system.files, traveller.letter)
    if request is None:
        raise RequestError("it has no annotation.", remedy="Add one with 'apvfio guest set --live'.")
    require_migratable(request)
    prospect = other.preview(traveller.letter)
    mine = read_equipment(system, read_host(system.sysfs), traveller.queues.queues())
    warnings = compare(mine, prospect.equipment, other_keys=other_keys)
    if request.criteria is None and request.matrix != traveller.queues:
        warnings.append(
            f"it has {traveller.queues} here, and will have what its annotation asks for: {request.matrix}"
        )
    theirs = prospect.plan.get("warnings")
    said = [printable(str(text), _LONGEST) for text in theirs] if isinstance(theirs, list) else []
    return prospect, [*warnings, *(f"at the destination: {text}" for text in said)]


def _find(guests: Guests, name: str) -> Guest | None:
    try:
        return guests.find(name)
    except RequestError:
        return None


def _running(guests: Guests, name: str) -> Guest | None:
    guest = _find(guests, name)
    return guests.running(guest.uuid) if guest else None


def _require_no_namesake(there: Guests, guest: Guest) -> None:
    namesake = _find(there, guest.name)
    if namesake and namesake.uuid != guest.uuid:
        raise ConflictError(
            f"the destination has another guest of that name, {namesake.uuid}.", remedy="Rename one of them."
        )


def _lease(system: System, guest: Guest) -> Lease | None:
    leases = ledger_file.load(system.files, system.boot_id).of_guest(guest.uuid)
    for lease in leases:
        if lease.state != HELD:
            raise ConflictError(f"what it holds is {lease.state} just now.", remedy="Try again later.")
    return leases[0] if leases else None


def _device(guest: Guest) -> str | None:
    """The device of a guest that has come without it: its definition names it."""
    here = hotplug.attached(guest)
    defined = None if here or not guest.persistent else parse_device(guest.xml())
    return here or (defined.mdev if defined else None)

# SPDX-License-Identifier: Apache-2.0
"""Checks before a migration: the guest, what it has, and whether it would have as much at the destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import parse_device, request_of
from apvfio.domain.xml_editor import minimal_xml
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import hotplug
from apvfio.migration.compare_queues import compare, read_equipment
from apvfio.migration.places import ABSENT, UNKNOWN, GuestPlaces, Presence, StrandedError
from apvfio.migration.stages import runs_nowhere
from apvfio.migration.transfer import InterruptionError
from apvfio.model.errors import ApvfioError, ConflictError, RequestError, UsageError, printable
from apvfio.model.ledger import HELD
from apvfio.model.matrix import Matrix
from apvfio.plan.secure_execution import require_migratable
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest
    from apvfio.migration.daemon import Daemon
    from apvfio.migration.hosts import OtherHost, Prospect
    from apvfio.migration.migrate import Ends
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
    mdev: str = ""
    """The uuid of its mediated device here, '' if it has none or runs at the destination."""


def identify(here: Daemon, there: Daemon, name: str) -> tuple[str, str]:
    """The name and the uuid of the guest of that name, uuid or id on this host.

    StrandedError if they cannot be found.

    An interruption is one of a program that has not begun.
    """
    seen = GuestPlaces(Presence(UNKNOWN), Presence(UNKNOWN), lease_here=False)
    try:
        guest = here.find(name)
        if guest:
            return guest.name, guest.uuid
        seen = seen._replace(here=Presence(ABSENT))
        guest = there.find(name)
        # Each host has ids of its own.
        if guest and name.lower() in (guest.name.lower(), guest.uuid):
            return guest.name, guest.uuid
    except InterruptionError:
        raise KeyboardInterrupt from None
    except ApvfioError as error:
        raise StrandedError(error, seen, moved=False) from None
    sentence = f"libvirt knows no guest {printable(name)}, here or at the destination."
    unknown = RequestError(sentence, remedy="See 'virsh list --all'.")
    raise StrandedError(unknown, seen._replace(there=Presence(ABSENT)), moved=False)


def find(ends: Ends, uuid: str, *, back: bool) -> Traveller:
    """Return the guest with that uuid, where it runs, or where it is defined if it runs nowhere.

    ConflictError if its lease here is being changed, or the destination has another guest of that name. On
    the way ``back`` the destination need not answer.
    """
    guest = ends.here.find(uuid)
    if guest and guest.active:
        try:
            return _running_here(ends, guest, back=back)
        except ApvfioError as error:
            raise error.for_guest(guest.name) from None
    other = ends.there.find(uuid)
    if other and other.active:
        return Traveller(other.name, other.uuid, minimal_xml(other.xml(live=True), _device(other)), Matrix())
    known = guest or other
    if known is None:
        raise runs_nowhere()
    return Traveller(known.name, known.uuid, minimal_xml(known.xml()), Matrix())


def _running_here(ends: Ends, guest: Guest, *, back: bool) -> Traveller:
    if not back:
        _require_no_namesake(ends.there, guest)
    lease = _lease(ends.system, guest)
    device = hotplug.attached(guest)
    if lease and device not in (None, lease.mdev):
        raise ConflictError(
            f"its mediated device {device} was not created by apvfio.", remedy="Unplug that device first."
        )
    mdev, queues = (lease.mdev, lease.matrix) if lease else (_device(guest), Matrix())
    return Traveller(guest.name, guest.uuid, minimal_xml(guest.xml(live=True), mdev), queues, mdev or "")


def require_two_hosts(ends: Ends) -> None:
    """UsageError if the destination is this host."""
    uuid = ends.here.guests().host_uuid()
    if uuid and uuid == ends.there.guests().host_uuid():
        raise UsageError(
            "the destination is this host.",
            remedy="Name another host. If this is another host, give each libvirtd a host_uuid of its own.",
        )


def preview(
    system: System, traveller: Traveller, other: OtherHost, *, other_keys: bool
) -> tuple[Prospect, list[WarningText]]:
    """Return what the destination would do for the guest, and the warnings; errors say why it cannot.

    ``other_keys`` allows other master keys there.
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
            f"it has {traveller.queues} here, and will have there what its annotation requests: "
            f"{request.matrix}"
        )
    criteria = request.criteria
    if criteria and not criteria.control_usage:
        lost = traveller.queues.control_domains - criteria.control_domains
        if lost:
            warnings.append(f"it controls domains {lost} here, and its annotation does not request them")
    theirs = prospect.plan.get("warnings")
    said = [printable(str(text), _LONGEST) for text in theirs] if isinstance(theirs, list) else []
    return prospect, [*warnings, *(f"at the destination: {text}" for text in said)]


def _require_no_namesake(there: Daemon, guest: Guest) -> None:
    namesake = there.find(guest.name)
    if namesake and namesake.uuid != guest.uuid:
        raise ConflictError(
            f"the destination has another guest of that name, {namesake.uuid}.", remedy="Rename one of them."
        )


def _lease(system: System, guest: Guest) -> Lease | None:
    leases = ledger_file.load(system.files, system.boot_id).of_guest(guest.uuid)
    for lease in leases:
        if lease.state != HELD:
            raise ConflictError(
                f"another call is changing its queues (lease state: {lease.state}).",
                remedy="Try again later.",
            )
    return leases[0] if leases else None


def _device(guest: Guest) -> str | None:
    """The device of a guest that has come without it: its definition names it."""
    here = hotplug.attached(guest)
    defined = None if here or not guest.persistent else parse_device(guest.xml())
    return here or (defined.mdev if defined else None)

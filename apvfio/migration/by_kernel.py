# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel can migrate a guest with its device, so that the guest keeps its queues.

A draft of vfio_ap does that (`apvfio.kernel.device_migration`). The guest gets the same queues at the
destination, whatever its annotation requests. The draft compares no master keys; this module does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.domain.request import request_of
from apvfio.domain.xml_editor import minimal_xml, with_request
from apvfio.kernel.device_migration import migrates_devices, not_migratable
from apvfio.kernel.snapshot import read_guest_queues, read_host
from apvfio.libvirt.guests import annotation
from apvfio.migration.compare_queues import compare, read_equipment
from apvfio.model.errors import ConflictError, HostError, RequestError, printable
from apvfio.model.text import some_queues
from apvfio.plan.secure_execution import require_migratable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.kernel.seam import System
    from apvfio.migration.compare_queues import Equipment
    from apvfio.migration.hosts import OtherHost, Prospect
    from apvfio.migration.migrate import Ends
    from apvfio.migration.source import Traveller
    from apvfio.model.ids import IdSet
    from apvfio.model.matrix import Apqn
    from apvfio.model.text import WarningText

NEVER, AUTO, ONLY = "never", "auto", "only"
WAYS = (NEVER, AUTO, ONLY)
"""Whether the kernel is to migrate the guest's device: not at all, where it can, or in no other way."""
UNASKED = "--by-kernel was not given"
"""Why a guest's device is unplugged if the option was not given, in a clause."""
_LONGEST = 300
_SAME_KEYS = (
    "Load the same master keys there, or unplug the queues for the move: --by-kernel auto --other-keys."
)
_INSTEAD = "Use --by-kernel auto to unplug its queues for the move."


def letter(traveller: Traveller) -> bytes:
    """What the destination needs to know of a guest that is to have the very same queues there."""
    return minimal_xml(with_request(traveller.letter, annotation(traveller.queues), traveller.mdev))


def preview(ends: Ends, traveller: Traveller, *, attached: bool) -> tuple[Prospect, list[WarningText]]:
    """Return what the destination would do, and the warnings; errors say why the kernel cannot migrate.

    ``attached`` says whether the guest has its device. QEMU is asked last: libvirt marks a guest whose QEMU
    is asked by others.
    """
    prospect, warnings = preview_queues(ends.system, traveller, ends.other, attached=attached)
    guest = ends.here.running(traveller.uuid)
    blockers = guest.migration_blockers()
    if blockers:
        said = "; ".join(printable(text.rstrip("."), _LONGEST) for text in blockers)
        raise HostError(f"QEMU cannot migrate it now: {said}.", remedy=_INSTEAD)
    return prospect, warnings


def preview_queues(
    system: System, traveller: Traveller, other: OtherHost, *, attached: bool
) -> tuple[Prospect, list[WarningText]]:
    """The same as far as both hosts and the queues are concerned; QEMU is not asked."""
    request = request_of(system.files, traveller.letter)
    if request is None:
        raise RequestError("it has no annotation.", remedy="Add one with 'apvfio guest set --live'.")
    require_migratable(request)
    if not migrates_devices(system.sysfs):
        raise not_migratable("this host", _INSTEAD)
    if not attached:
        raise ConflictError("its device is unplugged already.", remedy=_INSTEAD)
    prospect = other.preview(letter(traveller))
    if not prospect.migratable:
        raise not_migratable("the destination", _INSTEAD)
    mine = _guest_queues(system, traveller)
    there = {queue: prospect.equipment[queue] for queue in mine if queue in prospect.equipment}
    _require_there(mine, there)
    _require_control(traveller.queues.control_domains, prospect.control_domains)
    theirs = prospect.plan.get("warnings")
    said = [printable(str(text), _LONGEST) for text in theirs] if isinstance(theirs, list) else []
    return prospect, [
        *compare(mine, there, remedy=_SAME_KEYS),
        *(f"at the destination: {text}" for text in said),
    ]


def _guest_queues(system: System, traveller: Traveller) -> dict[Apqn, Equipment]:
    """What the guest has of its queues: those that it lacks here do not travel."""
    has = read_guest_queues(system.sysfs, traveller.mdev, traveller.queues)
    found = read_equipment(system, read_host(system.sysfs), traveller.queues.queues())
    return {queue: one for queue, one in found.items() if (queue in has if has is not None else one.mode)}


def _require_there(here: Mapping[Apqn, Equipment], there: Mapping[Apqn, Equipment]) -> None:
    """HostError unless the destination has every queue, none of an older generation."""
    missing = [queue for queue in here if queue not in there or not there[queue].mode]
    if missing:
        raise HostError(
            f"the destination does not have {some_queues(missing)}.", queues=missing, remedy=_INSTEAD
        )
    older = [queue for queue, one in here.items() if there[queue].generation < one.generation]
    if older:
        sentence = f"{some_queues(older)} at the destination are of an older generation than here."
        raise HostError(sentence, queues=older, remedy=_INSTEAD)


def _require_control(here: IdSet, there: IdSet | None) -> None:
    missing = here - there if there is not None else here
    if missing:
        raise HostError(f"the destination does not control domains {missing}.", remedy=_INSTEAD)

# SPDX-License-Identifier: Apache-2.0
"""The destination of a running guest: its queues are freed and its device created before it arrives.

The guest arrives without the device, which is plugged in when the guest runs. If the guest leaves but does
not arrive, libvirt's hook returns the queues. If the guest never leaves, `give_up` returns them, or `apvfio
reconcile` two minutes later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import guest_uuid, parse_device, request_of
from apvfio.domain.xml_editor import minimal_xml
from apvfio.engine.kernel_move import begin_move, end_move
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.device_migration import migrates_devices, not_migratable
from apvfio.kernel.snapshot import read_host
from apvfio.migration.compare_queues import Equipment, read_equipment
from apvfio.model.errors import ConflictError, RequestError
from apvfio.model.ids import IdSet, format_list
from apvfio.model.ledger import HELD
from apvfio.model.progress import no_progress
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.engine.carry_out import Outcome
    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn
    from apvfio.model.process import Process
    from apvfio.model.progress import Progress
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan


class Preview(NamedTuple):
    """What the arrival of a guest would do, and the properties of the queues that it would get."""

    plan: Plan
    equipment: dict[Apqn, Equipment]
    migratable: bool
    """Whether the kernel here takes a guest with its device."""
    control_domains: IdSet | None
    """The control domains of this host; None if the kernel does not tell."""

    def as_json(self) -> dict[str, object]:
        """For the host it comes from."""
        queues = {str(queue): one.as_json() for queue, one in self.equipment.items()}
        controls = self.control_domains
        return {
            "plan": self.plan.as_json(),
            "equipment": queues,
            "migratable": self.migratable,
            "control_domains": None if controls is None else format_list(controls),
        }


def preview(system: System, xml: bytes) -> Preview:
    """What `expect` would do for the guest ``xml``; changes nothing. The errors are those of a start."""
    plan = preview_plan(system, _request(system, xml))
    queues = plan.request.matrix.queues()
    host = read_host(system.sysfs)
    equipment = read_equipment(system, host, queues)
    return Preview(plan, equipment, migrates_devices(system.sysfs), host.control_domains)


def expect(system: System, xml: bytes, *, abandoned: Callable[[], bool] = bool) -> Lease:
    """Free the queues of the guest ``xml`` and create its mediated device; a second call does nothing.

    ``abandoned`` says, once the lock is held, whether the caller no longer waits for the answer. The errors
    are those of a start; ConflictError also if the guest runs here and holds other queues.
    """
    request = _request(system, xml)
    held = _held(system, request.guest_uuid)
    here = runs(system, request.guest_uuid)
    if held:
        same = held.mdev == request.mdev and (request.criteria or held.matrix == request.matrix)
        if same and read_host(system.sysfs).mdevs.get(held.mdev) == held.matrix:
            return held
        if here and not same:
            sentence = f"it runs here and holds {held.matrix} through mediated device {held.mdev}."
            remedy = "See 'apvfio status'."
            raise ConflictError(sentence, guest=request.guest, queues=held.matrix.queues(), remedy=remedy)
    awaited = held.expected if held else not here
    return start_guest(system, request, expected=awaited, abandoned=abandoned)


def hold(system: System, xml: bytes, mover: Process, *, abandoned: Callable[[], bool] = bool) -> Lease:
    """The same as `expect` for a guest that the kernel brings with its device.

    Until `let_go`, or until the process ``mover`` has ended, masks and overrides are held still here.
    """
    if not migrates_devices(system.sysfs):
        raise not_migratable("its kernel", "Migrate the guest without --by-kernel.")
    lease = expect(system, xml, abandoned=abandoned)
    begin_move(system, lease.uuid, lease.matrix, mover)
    return lease


def let_go(system: System, guest_uuid: str, progress: Progress = no_progress) -> Outcome:
    """Allow changes of masks and overrides again; record what a guest that has arrived brought along."""
    return end_move(system, guest_uuid, progress)


def give_up(system: System, xml: bytes, progress: Progress) -> Outcome:
    """Return what is held for the guest ``xml``, which will not arrive; ConflictError if it runs here."""
    uuid = guest_uuid(xml)
    if runs(system, uuid):
        held = _held(system, uuid)
        raise ConflictError(
            "it runs here.", guest=held.guest if held else "", remedy="Its queues are returned when it stops."
        )
    return release_guest(system, uuid, progress=progress)


def runs(system: System, uuid: str) -> bool:
    """Whether the guest has a QEMU process here, were it only to wait for its memory."""
    return uuid in (system.running_guests() or ())


def _request(system: System, xml: bytes) -> Request:
    if parse_device(xml) is None:
        # The guest is here already, and its device waits for it.
        held = _held(system, guest_uuid(xml))
        xml = minimal_xml(xml, held.mdev) if held else xml
    request = request_of(system.files, xml)
    if request is None:
        sentence = "its XML has no annotation, and mdevctl has no definition of its device."
        raise RequestError(sentence, remedy="Add one with 'apvfio guest set' before it is migrated.")
    return request


def _held(system: System, uuid: str) -> Lease | None:
    leases = ledger_file.load(system.files, system.boot_id).of_guest(uuid)
    return next((lease for lease in leases if lease.state == HELD), None)

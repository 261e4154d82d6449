# SPDX-License-Identifier: Apache-2.0
"""The present and future users of an adapter's or a domain's queues, for a planned change of either."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.domain.request import request_of
from apvfio.kernel.usage import usage_of
from apvfio.libvirt.guests import Guests
from apvfio.libvirt.status import read_status
from apvfio.model.errors import ApvfioError
from apvfio.model.host import HOST_DRIVER, MASK_NAMES, Usage
from apvfio.model.policy import Policy
from apvfio.store.definitions import defined_devices

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.libvirt.status import Status
    from apvfio.model.drain import Drain
    from apvfio.model.host import Host
    from apvfio.model.ids import IdSet
    from apvfio.model.ledger import Claim, Lease, Ledger
    from apvfio.model.matrix import Apqn, Area, Matrix
    from apvfio.model.owners import Owner
    from apvfio.model.process import Process
    from apvfio.plan.pending_returns import PendingReturn
    from apvfio.store.definitions import DefinedDevice


class AskingGuest(NamedTuple):
    """A guest that requests queues by their ids."""

    name: str
    """Untrusted text."""
    uuid: str
    running: bool
    matrix: Matrix
    mdev: str
    annotated: bool
    """Whether its annotation says so, or else mdevctl's definition of its device."""


class ForeignDevice(NamedTuple):
    """A mediated device that apvfio has not made for a guest."""

    mdev: str
    matrix: Matrix
    process: Process | None
    """The process that has it open."""


class Users(NamedTuple):
    """Who has, or will have, queues of an area."""

    area: Area
    found: Status
    """Of the whole host."""
    guests: tuple[AskingGuest, ...]
    libvirt_error: ApvfioError | None
    """Why ``guests`` are not known, None if they are."""
    devices: tuple[ForeignDevice, ...]
    definitions: tuple[DefinedDevice, ...]
    usage: Usage
    """The host's own use of the queues."""

    @property
    def owners(self) -> dict[Apqn, Owner]:
        """The owner of each queue of the area that the host has."""
        return {queue: owner for queue, owner in self.found.owners.items() if self.area.holds(queue)}

    @property
    def leases(self) -> list[Lease]:
        """The leases of guests that hold one of its queues."""
        return [lease for lease in self.found.ledger.leases.values() if self.area.meets(lease.matrix)]

    @property
    def claims(self) -> list[Claim]:
        """The claims on one of its queues."""
        return [claim for claim in self.found.ledger.claims.values() if self.area.meets(claim.matrix)]

    @property
    def reserved(self) -> list[Apqn]:
        """Its queues that the policy reserves for the host."""
        return [queue for queue in self.owners if self.found.policy.reserves(queue)]

    @property
    def drains(self) -> list[Drain]:
        """The drains that concern it."""
        return [drain for drain in self.found.drains if drain.area.overlaps(self.area)]

    @property
    def pending(self) -> list[PendingReturn]:
        """The pending returns of its queues and mask bits."""
        mine = (one._replace(ids=self._bits(one), queues=self._queues(one)) for one in self.found.pending)
        return [one for one in mine if one.ids or one.queues]

    def _bits(self, one: PendingReturn) -> IdSet:
        area = self.area
        if area.everything:
            return one.ids
        return one.ids & (area.adapters if one.attribute == MASK_NAMES[0] else area.domains)

    def _queues(self, one: PendingReturn) -> tuple[Apqn, ...]:
        return tuple(filter(self.area.holds, one.queues))


def read_users(system: System, area: Area, connect: str) -> Users:
    """Read the users; if the libvirt daemon at ``connect`` does not answer, only its answers are missing."""
    found = read_status(system)
    mine = [
        queue for queue, driver in found.host.drivers.items() if driver == HOST_DRIVER and area.holds(queue)
    ]
    guests: tuple[AskingGuest, ...] = ()
    error = None
    try:
        guests = _asking(system, area, connect)
    except ApvfioError as why:
        error = why
    return Users(
        area=area,
        found=found,
        guests=guests,
        libvirt_error=error,
        devices=foreign_devices(system, found.host, found.ledger, area),
        definitions=tuple(device for device in defined_devices(system.files) if area.meets(device.matrix)),
        # Shown independently of the policy's rules.
        usage=usage_of(system, found.host, mine, Policy()),
    )


def foreign_devices(system: System, host: Host, ledger: Ledger, area: Area) -> tuple[ForeignDevice, ...]:
    """Return the mediated devices without a lease that have queues of ``area``."""
    return tuple(
        ForeignDevice(uuid, matrix, system.opener(uuid))
        for uuid, matrix in sorted(host.mdevs.items())
        if uuid not in ledger.leases and area.meets(matrix)
    )


def _asking(system: System, area: Area, connect: str) -> tuple[AskingGuest, ...]:
    found = []
    with Guests(connect) as guests:
        for guest in guests.all():
            try:
                request = request_of(system.files, guest.next_xml())
            except ApvfioError:
                continue  # 'apvfio doctor' reports what is wrong with it
            if request and not request.criteria and area.meets(request.matrix):
                annotated = "annotation" in request.source
                found.append(
                    AskingGuest(guest.name, guest.uuid, guest.active, request.matrix, request.mdev, annotated)
                )
    return tuple(found)

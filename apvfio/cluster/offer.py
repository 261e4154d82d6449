# SPDX-License-Identifier: Apache-2.0
"""What this host offers to its cluster: queues of each class, and which guests it could start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cluster.bare_host import without_guests
from apvfio.cluster.capacity import BareState, capacity
from apvfio.cluster.classes import utilization
from apvfio.cluster.keys import read_keys
from apvfio.engine.plan_start import planned
from apvfio.engine.state import State, read_state
from apvfio.kernel.usage import usage_of
from apvfio.model.errors import ApvfioError
from apvfio.model.host import HOST_DRIVER
from apvfio.model.policy import IGNORE
from apvfio.plan.start_plan import make_plan
from apvfio.store.ledger_file import LEDGER

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from apvfio.cluster.guest_files import GuestFile
    from apvfio.kernel.seam import System
    from apvfio.model.cards import CardFacts
    from apvfio.model.ledger import Ledger
    from apvfio.model.request import Request
    from apvfio.model.text import WarningText
    from apvfio.plan.start_plan import Plan

_LOOKS = 20
_PAUSE = 0.05


class GuestOffer(NamedTuple):
    """Whether this host could start a guest if no guest of the cluster held a queue."""

    guest: GuestFile
    error: ApvfioError | None
    """Why it could not; None if it could."""

    @property
    def attribute(self) -> str:
        """The name of the node attribute that says so."""
        return eligibility_attribute(self.guest.name)

    def as_json(self) -> dict[str, object]:
        """What ``cluster offer --json`` prints."""
        request = self.guest.request
        return {
            "guest": self.guest.name,
            "uuid": request.guest_uuid if request else None,
            "file": self.guest.path,
            "eligible": self.error is None,
            "error": self.error and self.error.as_json(),
            "utilization": utilization(request) if request else {},
        }


class Offer(NamedTuple):
    """All that a host publishes."""

    utilization: dict[str, int]
    guests: tuple[GuestOffer, ...]

    @property
    def attributes(self) -> dict[str, str]:
        """Return the node attributes, by name; none for a guest whose file is invalid, maybe temporarily."""
        sound = [guest for guest in self.guests if not guest.guest.error]
        return {guest.attribute: str(int(guest.error is None)) for guest in sound}

    def as_json(self) -> dict[str, object]:
        """What ``cluster offer --json`` prints."""
        return {
            "utilization": self.utilization,
            "attributes": self.attributes,
            "guests": [guest.as_json() for guest in self.guests],
        }


def eligibility_attribute(guest: str) -> str:
    """Return the name of the node attribute that says whether a host could start ``guest``: 1 or 0."""
    return f"apvfio-{guest}"


def read_offer(system: System, guests: Sequence[GuestFile]) -> Offer:
    """Return what this host offers, independently of what the cluster's ``guests`` hold now."""
    state = _read_steadily(system)
    return make_offer(system, state, guests, read_keys(system, state.host))


def make_offer(system: System, state: State, guests: Sequence[GuestFile], known: CardFacts) -> Offer:
    """Return what the host in ``state`` offers; ``known`` are its cards and the keys of its queues."""
    requests = [guest.request for guest in guests if guest.request]
    bare = bare_state(system, state, known, _uuids(guests, state.ledger))
    offers = [GuestOffer(guest, guest.error or _refusal(system, guest.request, bare)) for guest in guests]
    return Offer(capacity(bare, requests), tuple(offers))


def _uuids(guests: Sequence[GuestFile], ledger: Ledger) -> set[str]:
    """Return the UUIDs of all ``guests``; for a guest whose file cannot be read now, those of its leases."""
    unread = {guest.name for guest in guests if guest.request is None}
    leased = {lease.uuid for lease in ledger.leases.values() if lease.guest in unread}
    return leased.union(guest.request.guest_uuid for guest in guests if guest.request)


def bare_state(system: System, state: State, known: CardFacts, uuids: Collection[str]) -> BareState:
    """Return the host in ``state`` as if the guests ``uuids`` had never held a queue."""
    host, ledger = without_guests(state.host, state.ledger, uuids)
    # Requests take only a moment, and only the host's own queues have any.
    policy = state.policy._replace(busy=state.policy.busy._replace(requests=IGNORE))
    usage = usage_of(system, host, [q for q, driver in host.drivers.items() if driver == HOST_DRIVER], policy)
    usable = {queue: mode for queue, mode in usage.usable.items() if queue not in ledger.offline_queues}
    return BareState(host, ledger, policy, usage._replace(usable=usable), known)


def _refusal(system: System, request: Request | None, bare: BareState) -> ApvfioError | None:
    """Return why the guest could not start on the bare host; None if it could, or requests no queues."""
    if request is None:
        return None

    def make(named: Request, _: tuple[WarningText, ...]) -> Plan:
        return make_plan(named, bare.host, bare.ledger, bare.policy, bare.usage)

    try:
        planned(system, request, State(bare.host, bare.ledger, bare.policy), make, known=bare.known)
    except ApvfioError as error:
        return error.for_guest(request.guest)
    return None


def _read_steadily(system: System) -> State:
    """Read the host between two changes of the ledger, without keeping starts and stops waiting."""
    for _ in range(_LOOKS):
        before = system.files.read(LEDGER)
        state = read_state(system)
        if system.files.read(LEDGER) == before:
            return state
        time.sleep(_PAUSE)
    with system.lock():
        return read_state(system)

# SPDX-License-Identifier: Apache-2.0
"""What state cards and queues are in, for those who look at a host."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.errors import HostError
from apvfio.host import UNBOUND, VFIO_DRIVER, in_use, is_online
from apvfio.inventory import read_cards

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.host import Host
    from apvfio.inventory import Device
    from apvfio.matrix import Apqn
    from apvfio.sysfs import Sysfs

IN_USE = "in use"
"""A running guest has it attached."""
OFFLINE = "offline"
"""It is the host's, whose administrator has set it offline."""
DECONFIGURED = "deconfigured"
CHECKSTOPPED = "check-stopped"
STATES = (IN_USE, OFFLINE, DECONFIGURED, CHECKSTOPPED)

_FAULTS = {"deconfig": DECONFIGURED, "chkstop": CHECKSTOPPED}


class Seen(NamedTuple):
    """The types of the cards by their adapters (``CEX8P``), and the queues of which there is more to say."""

    types: Mapping[int, str] = {}
    states: Mapping[Apqn, str] = {}
    """One of `STATES`; a queue of which there is nothing to say lacks."""


NOTHING_SEEN = Seen()


def read_states(sysfs: Sysfs, host: Host) -> Seen:
    """What the cards and queues of ``host`` are like now; one that goes away meanwhile tells nothing.

    One attribute is read for each queue that the host or a device has: ``status`` (vops:status_show) or
    ``online`` (zq:online_show, which is 0 as well where the queue cannot work).
    """
    cards = {int(card.id, 16): card for card in _cards(sysfs)}
    faults = {adapter: _FAULTS.get(card.status or "", "") for adapter, card in cards.items()}
    held = {queue for matrix in host.mdevs.values() for queue in matrix.queues()}
    states = {}
    for queue, driver in host.drivers.items():
        state = faults.get(queue.adapter) or _state(sysfs, queue, driver, held=queue in held)
        if state:
            states[queue] = state
    return Seen({adapter: card.type or "" for adapter, card in cards.items()}, states)


def _cards(sysfs: Sysfs) -> list[Device]:
    try:
        return list(read_cards(sysfs))
    except HostError:
        return []  # the queues, which are the bus', tell the more important things


def _state(sysfs: Sysfs, queue: Apqn, driver: str, *, held: bool) -> str:
    if driver == VFIO_DRIVER:
        return IN_USE if held and in_use(sysfs, queue) else ""
    return "" if driver == UNBOUND or is_online(sysfs, queue) else OFFLINE

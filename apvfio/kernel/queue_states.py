# SPDX-License-Identifier: Apache-2.0
"""Read the states of cards and queues, for display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.lszcrypt import read_cards
from apvfio.kernel.snapshot import in_use, is_online
from apvfio.model.errors import HostError
from apvfio.model.host import UNBOUND, VFIO_DRIVER
from apvfio.model.queue_states import CHECKSTOPPED, DECONFIGURED, IN_USE, OFFLINE, QueueStates

if TYPE_CHECKING:
    from apvfio.kernel.lszcrypt import ApDevice
    from apvfio.kernel.seam import Sysfs
    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn

_FAULTS = {"deconfig": DECONFIGURED, "chkstop": CHECKSTOPPED}


def read_states(sysfs: Sysfs, host: Host) -> QueueStates:
    """Return the states of the cards and queues of ``host``; one that disappears meanwhile has none.

    One attribute is read for each queue that the host or a device has: ``status`` (vops:status_show) or
    ``online`` (zq:online_show, which is also 0 if the queue cannot work).
    """
    cards = {int(card.id, 16): card for card in _cards(sysfs)}
    faults = {adapter: _FAULTS.get(card.status or "", "") for adapter, card in cards.items()}
    held = {queue for matrix in host.mdevs.values() for queue in matrix.queues()}
    states = {}
    for queue, driver in host.drivers.items():
        state = faults.get(queue.adapter) or _state(sysfs, queue, driver, held=queue in held)
        if state:
            states[queue] = state
    return QueueStates({adapter: card.type or "" for adapter, card in cards.items()}, states)


def _cards(sysfs: Sysfs) -> list[ApDevice]:
    try:
        return list(read_cards(sysfs))
    except HostError:
        return []  # the queues, which are the bus', tell the more important things


def _state(sysfs: Sysfs, queue: Apqn, driver: str, *, held: bool) -> str:
    if driver == VFIO_DRIVER:
        return IN_USE if held and in_use(sysfs, queue) else ""
    return "" if driver == UNBOUND or is_online(sysfs, queue) else OFFLINE

# SPDX-License-Identifier: Apache-2.0
"""The state of a mediated device as the draft of vfio_ap's live migration transfers it between hosts.

The kernel's patches for that are not merged. This module follows them as they were posted in June 2026; later
ones may differ. It is not known when the draft answers ECANCELED, so that answer does not occur here.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV, ENOTTY
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim import zcrypt
from apvfio.sim.grammar import refusal
from apvfio.sim.vfio import DRIVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.sim.bus import Rules
    from apvfio.sim.state import Mdev

_ALIKE = 0x1F000000
"""Of TAPQ's facility bits: the three of the mode, APXA and SLCF (ap.h:ap_tapq_hwinfo)."""
_BIND_STATE = 0x0000C000
"""BS: whether a Secure Execution guest has bound the queue."""


class Tapq(NamedTuple):
    """What PQAP(TAPQ) says of a queue."""

    functions: int
    """The facility bits, as ``ap_functions`` shows them."""
    hwtype: int


class DeviceState(NamedTuple):
    """What the source's kernel hands over while the guest stands still (STOP_COPY)."""

    control_domains: IdSet
    """adm."""
    queues: Mapping[Apqn, Tapq]
    """Those of the source's ``guest_matrix``."""

    @property
    def matrix(self) -> Matrix:
        """The configuration that the destination's device gets."""
        adapters, domains = zip(*self.queues) if self.queues else ((), ())
        return Matrix(IdSet(adapters), IdSet(domains), self.control_domains)


def save(rules: Rules, uuid: str) -> DeviceState:
    """The state of the device ``uuid``, which a virtual machine has open; OSError as the kernel answers."""
    matrix = _open_device(rules, uuid).guest_matrix
    return DeviceState(matrix.control_domains, {queue: _tapq(rules, queue) for queue in matrix.queues()})


def load(rules: Rules, uuid: str, state: DeviceState) -> None:
    """Give the device ``uuid``, which an incoming virtual machine has open, the ``state`` of its source.

    OSError as the kernel answers, and nothing has changed then.
    """
    mdev = _open_device(rules, uuid)
    for queue, there in state.queues.items():
        mine = rules.state.queues.get(queue)
        if mine is None or mine.driver != DRIVER:
            raise refusal(ENODEV)
        here = _tapq(rules, queue)
        if (there.functions ^ here.functions) & _ALIKE or there.hwtype > here.hwtype:
            raise refusal(EINVAL)
        if (there.functions | here.functions) & _BIND_STATE:
            raise refusal(EINVAL)
    if state.control_domains - rules.state.config.control_domains:
        raise refusal(ENODEV)
    rules.vfio.store_ap_config(mdev, state.matrix.as_ap_config())


def _open_device(rules: Rules, uuid: str) -> Mdev:
    if not rules.profile.migratable:
        raise refusal(ENOTTY)
    mdev = rules.state.mdevs.get(uuid)
    if mdev is None or not mdev.vm:
        raise refusal(ENODEV)
    return mdev


def _tapq(rules: Rules, queue: Apqn) -> Tapq:
    card = rules.state.cards[queue.adapter]
    return Tapq(zcrypt.FUNCTIONS[card.mode], card.hwtype)

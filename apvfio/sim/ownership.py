# SPDX-License-Identifier: Apache-2.0
"""Who may have a queue: three questions of the kernel, with three different answers.

The answers agree while masks are used as intended. They differ for queues that are unbound, do not exist, or
have a ``driver_override``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from apvfio.model.matrix import Apqn
    from apvfio.sim.state import State


class Driver(NamedTuple):
    """A driver of the AP bus."""

    name: str
    module: str
    for_cards: bool
    for_host: bool
    """AP_DRIVER_FLAG_DEFAULT: it serves the host itself."""


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("cex4card", "zcrypt_cex4", for_cards=True, for_host=True),
        Driver("cex4queue", "zcrypt_cex4", for_cards=False, for_host=True),
        Driver("vfio_ap", "vfio_ap", for_cards=False, for_host=False),
    )
}


def masks_give_host(state: State, apqn: Apqn) -> bool:
    """Whether both masks leave ``apqn`` to the host, existing or not."""
    return apqn.adapter in state.apmask and apqn.domain in state.aqmask


def may_probe(state: State, apqn: Apqn, driver: Driver) -> bool:
    """Whether ``driver`` may have the existing queue ``apqn`` now (bus:ap_device_probe)."""
    override = state.queues[apqn].override
    if override:
        return override == driver.name
    return masks_give_host(state, apqn) == driver.for_host


def must_rebind(state: State, apqn: Apqn) -> bool:
    """Whether a changed mask takes ``apqn`` from its driver (bus:__ap_revise_reserved).

    For an unbound queue the kernel looks through a null pointer, and what it finds varies; here
    it finds no reason to act.
    """
    queue = state.queues[apqn]
    return bool(queue.driver) and not may_probe(state, apqn, DRIVERS[queue.driver])


def host_owns(state: State, apqn: Apqn) -> bool:
    """Whether ``apqn`` cannot be assigned because it is the host's (bus:ap_owned_by_def_drv).

    Only a queue that is bound is found; no queue has an override before 7.2.
    """
    queue = state.queues.get(apqn)
    if queue and queue.driver and queue.override:
        return DRIVERS[queue.driver].for_host
    return masks_give_host(state, apqn)

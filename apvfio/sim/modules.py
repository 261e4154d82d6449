# SPDX-License-Identifier: Apache-2.0
"""Load and unload the kernel's modules."""

from __future__ import annotations

from errno import ENOENT, EWOULDBLOCK
from typing import TYPE_CHECKING

from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.sim.grammar import parse_mask, refusal
from apvfio.sim.state import MODULES

if TYPE_CHECKING:
    from apvfio.sim.bus import Rules
    from apvfio.sim.state import State


def load(rules: Rules, name: str) -> None:
    """Load a module and those that it needs, as ``modprobe`` does; do nothing if it is loaded."""
    if name not in MODULES:
        raise refusal(ENOENT)
    state, bus = rules.state, rules.bus
    if state.loaded(name):
        return
    for needed in MODULES[name]:
        load(rules, needed)
    if name == "ap":
        _init_masks(state)
        bus.scan()
    state.modules.append(name)
    for driver in bus.drivers_of(name):
        bus.driver_registered(driver)


def unload(rules: Rules, name: str) -> None:
    """``rmmod``: refused while another module needs it or a mediated device is open.

    Idle mediated devices do not hinder vfio_ap: they are destroyed (vdrv:vfio_ap_exit).
    """
    state, bus = rules.state, rules.bus
    if not state.loaded(name):
        raise refusal(ENOENT)
    in_use = name == "vfio_ap" and any(mdev.open for mdev in state.mdevs.values())
    if in_use or holders(state, name):
        raise refusal(EWOULDBLOCK)
    if name == "vfio_ap":
        for uuid in list(state.mdevs):
            rules.vfio.release(uuid)
            del state.mdevs[uuid]
    for driver in reversed(bus.drivers_of(name)):
        bus.driver_unregistered(driver)
    state.modules.remove(name)
    if name == "ap":
        _forget(state)


def holders(state: State, name: str) -> list[str]:
    """The loaded modules that need the module ``name``."""
    return [other for other in state.modules if name in MODULES[other]]


def _init_masks(state: State) -> None:
    """The masks of the boot parameters; they do not count as in use (bus:ap_perms_init)."""
    state.apmask = _boot_mask(state.boot_apmask)
    state.aqmask = _boot_mask(state.boot_aqmask)


def _boot_mask(parameter: str | None) -> IdSet:
    """A parameter edits an empty mask, and a wrong one leaves it empty."""
    if parameter is None:
        return ALL_IDS
    try:
        return parse_mask(parameter, NO_IDS)
    except OSError:
        return NO_IDS


def _forget(state: State) -> None:
    """What the bus knew goes with it."""
    fresh = type(state)(
        state.profile,
        state.hardware,
        boot_apmask=state.boot_apmask,
        boot_aqmask=state.boot_aqmask,
        modules=state.modules,
    )
    vars(state).update(vars(fresh))

# SPDX-License-Identifier: Apache-2.0
"""The AP bus: masks, overrides, scans, and which driver has which device."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENODEV
from typing import TYPE_CHECKING

from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim.grammar import device_name, parse_mask, parse_override, refusal
from apvfio.sim.ownership import DRIVERS, may_probe, must_rebind
from apvfio.sim.profile import profile_named
from apvfio.sim.state import Queue, SimCard
from apvfio.sim.vfio import VfioAp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.sim.ownership import Driver
    from apvfio.sim.profile import Profile
    from apvfio.sim.state import State

    Device = int | Apqn
    """A card, by its number, or a queue."""


class Bus:
    """The bus' rules, working on ``state``."""

    def __init__(self, state: State, profile: Profile, vfio: VfioAp) -> None:
        self._state = state
        self._profile = profile
        self._vfio = vfio

    # Masks and overrides.

    def store_mask(self, name: str, text: str) -> None:
        """Write ``apmask`` or ``aqmask`` (bus:apmask_store, aqmask_store)."""
        if self._state.overrides:
            raise refusal(EINVAL)
        old: IdSet = getattr(self._state, name)
        new = parse_mask(text, old)
        if new == old:
            return  # nothing is rebound, either
        if self._in_use(name, new - old):
            raise refusal(EBUSY)
        setattr(self._state, name, new)
        if self._profile.overrides:
            self._state.masks_in_use = not (self._state.apmask == ALL_IDS == self._state.aqmask)
        for apqn in self._state.queues:
            if must_rebind(self._state, apqn):
                self._detach(apqn)
                self._attach(apqn)

    def _in_use(self, name: str, reserved: IdSet) -> bool:
        """Whether a mediated device has queues that would return (bus:__verify_card_reservations)."""
        strict = self._profile.strict_return
        if name == "apmask":
            return self._vfio.in_use(reserved, ALL_IDS if strict else self._state.aqmask)
        return self._vfio.in_use(ALL_IDS if strict else self._state.apmask, reserved)

    def store_override(self, apqn: Apqn, text: str) -> None:
        """Write a queue's ``driver_override``: nothing is rebound by that (que:driver_override_store)."""
        if self._state.masks_in_use:
            raise refusal(EINVAL)
        queue = self._state.queues[apqn]
        new = parse_override(text)
        self._state.overrides += bool(new) - bool(queue.override)
        queue.override = new

    # Drivers.

    def drivers(self) -> list[Driver]:
        """Those that are loaded, in the order of their registration."""
        return [driver for module in self._state.modules for driver in self.drivers_of(module)]

    def drivers_of(self, module: str) -> list[Driver]:
        """Those that ``module`` brings."""
        return [driver for driver in DRIVERS.values() if driver.module == module]

    def devices(self) -> Iterator[Device]:
        """All cards and queues."""
        yield from self._state.cards
        yield from self._state.queues

    def find(self, name: str) -> Device | None:
        """The card or queue of that name."""
        apqn = Apqn.parse(name)
        if apqn:
            return apqn if apqn in self._state.queues else None
        return next((card for card in self._state.cards if name == f"card{card:02x}"), None)

    def driver_of(self, device: Device) -> str:
        """The name of the driver that has ``device``, '' if none."""
        if isinstance(device, int):
            return self._state.cards[device].driver
        return self._state.queues[device].driver

    def bind(self, driver: Driver, text: str) -> None:
        """A driver's ``bind`` (dbus:bind_store)."""
        device = self._named(text)
        if isinstance(device, int) != driver.for_cards:
            raise refusal(ENODEV)
        if self.driver_of(device):
            raise refusal(EBUSY)
        if not self._probe(driver, device):
            raise refusal(ENODEV)

    def unbind(self, driver: Driver, text: str) -> None:
        """A driver's ``unbind`` (dbus:unbind_store)."""
        device = self._named(text)
        if self.driver_of(device) != driver.name:
            raise refusal(ENODEV)
        self._detach(device)

    def probe(self, text: str) -> None:
        """``drivers_probe``: success even if no driver takes the device (dbus:drivers_probe_store)."""
        self._attach(self._named(text))

    def driver_registered(self, driver: Driver) -> None:
        """A module brought ``driver``: it takes what it may have (bus:ap_driver_register)."""
        if "ap" not in self._state.no_autoprobe:
            for device in list(self.devices()):
                if not self.driver_of(device):
                    self._probe(driver, device)
        self._check_complete()

    def driver_unregistered(self, driver: Driver) -> None:
        """A module takes ``driver`` away; its devices stay unbound."""
        for device in list(self.devices()):
            if self.driver_of(device) == driver.name:
                self._detach(device)

    def _named(self, text: str) -> Device:
        device = self.find(device_name(text))
        if device is None:
            raise refusal(ENODEV)
        return device

    def _attach(self, device: Device) -> None:
        if not self.driver_of(device):
            any(self._probe(driver, device) for driver in self.drivers())

    def _probe(self, driver: Driver, device: Device) -> bool:
        """Bind, if the driver is for such a device and may have it (bus:ap_bus_match, ap_device_probe)."""
        if isinstance(device, int):
            if not driver.for_cards:
                return False
            self._state.complete = False
            card = self._state.cards[device]
            card.driver, card.online = driver.name, True
            return True
        if driver.for_cards or not may_probe(self._state, device, driver):
            return False
        self._state.complete = False
        queue = self._state.queues[device]
        queue.driver = driver.name
        if driver.for_host:
            queue.online = True
            self._init(device)
        else:
            self._vfio.probe_queue(device)
            self._settle(device)
        return True

    def _detach(self, device: Device) -> None:
        """Take a device from its driver; a queue is zeroized (bus:ap_device_remove, que:ap_queue_remove)."""
        if isinstance(device, int):
            self._state.cards[device].driver = ""
            return
        queue = self._state.queues[device]
        if not queue.driver:
            return
        if not DRIVERS[queue.driver].for_host:
            self._vfio.remove_queue(device)
        queue.driver = ""
        queue.initiated = False
        queue.interrupts = queue.interrupts and device.adapter in self._state.hardware.standby

    # A queue's state machine, as far as it shows.

    def reset(self, apqn: Apqn) -> None:
        """The user writes to a queue's ``reset`` (que:reset_store)."""
        self._state.queues[apqn].resetting = True
        self._settle(apqn)

    def _init(self, apqn: Apqn) -> None:
        queue = self._state.queues[apqn]
        queue.initiated = queue.resetting = True
        self._settle(apqn)

    def _settle(self, apqn: Apqn) -> None:
        """A reset that was requested happens to a queue that is bound, initiated and configured, unless
        the machine has put it to standby since the last scan (que:ap_sm_event, ap_sm_reset)."""
        queue = self._state.queues[apqn]
        standby = apqn.adapter in self._state.hardware.standby
        if queue.resetting and queue.driver and queue.initiated and queue.config and not standby:
            queue.resetting = False
            queue.interrupts = True

    # Scans.

    def scan(self) -> None:
        """Look for what the machine has, and make and remove devices (bus:ap_scan_bus)."""
        old, new = self._state.config, self._state.hardware.config()
        self._state.config = new
        if new != old:
            if new.adapters - old.adapters or new.domains - old.domains:
                self._state.complete = False
            self._vfio.config_changed(old, new)
        self._select_domain()
        for adapter in sorted({*self._state.cards, *new.adapters}):
            self._scan_adapter(adapter)
        self._vfio.scan_complete()
        self._state.scans += 1
        self._check_complete()

    def bindings(self) -> str:
        """How many queues have a driver (bus:bindings_show)."""
        bound = sum(1 for queue in self._state.queues.values() if queue.driver)
        total = len(self._state.queues)
        return f"{bound}/{total}{' (complete)' if self._state.scans and bound == total else ''}"

    def _check_complete(self) -> None:
        """bus:ap_check_bindings_complete."""
        unbound = any(not queue.driver for queue in self._state.queues.values())
        if self._state.scans and not unbound and not self._state.complete:
            self._state.complete = True
            self._state.complete_count += 1

    def _select_domain(self) -> None:
        """The first domain of which the host has a queue, once and for all (bus:ap_select_domain)."""
        host = Matrix(self._state.apmask, self._state.aqmask).overlap(self._state.config)
        working = host.adapters - self._state.hardware.standby
        if self._state.domain < 0 and working and host.domains:
            self._state.domain = next(iter(host.domains))

    def _scan_adapter(self, adapter: int) -> None:
        """bus:ap_scan_adapter."""
        config = self._state.config
        mode = self._state.hardware.adapters.get(adapter)
        configured = adapter not in self._state.hardware.standby
        card = self._state.cards.get(adapter)
        if card and (card.mode != mode or not config.domains):
            self._remove_card(adapter)
            card = None
        if mode is None or not config.domains:
            return
        if card:
            card.config = configured
        else:
            self._state.cards[adapter] = SimCard(mode, config=configured)
            self._autoprobe(adapter)
        for apqn in self._state.queues_of(adapter):
            if apqn.domain not in config.domains:
                self._remove_queue(apqn)
        for domain in config.domains:
            self._scan_queue(Apqn(adapter, domain), configured=configured)

    def _scan_queue(self, apqn: Apqn, *, configured: bool) -> None:
        """bus:ap_scan_domains."""
        queue = self._state.queues.get(apqn)
        if not queue:
            # Its state machine starts with a reset (AP_SM_STATE_RESET_START is 0).
            self._state.queues[apqn] = Queue(config=configured, resetting=True)
            self._autoprobe(apqn)
            if configured:
                self._init(apqn)
        elif queue.config != configured:
            queue.config = configured
            if configured and queue.initiated:
                self._init(apqn)
        else:
            self._settle(apqn)

    def _autoprobe(self, device: Device) -> None:
        if "ap" not in self._state.no_autoprobe:
            self._attach(device)

    def _remove_card(self, adapter: int) -> None:
        for apqn in self._state.queues_of(adapter):
            self._remove_queue(apqn)
        self._detach(adapter)
        del self._state.cards[adapter]

    def _remove_queue(self, apqn: Apqn) -> None:
        """The device goes with its override; the count of overrides stays (que:ap_queue_device_release)."""
        self._detach(apqn)
        del self._state.queues[apqn]


class Rules:
    """A state and the rules that work on it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.profile = profile_named(state.profile)
        self.vfio = VfioAp(state, self.profile)
        self.bus = Bus(state, self.profile, self.vfio)

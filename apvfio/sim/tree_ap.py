# SPDX-License-Identifier: Apache-2.0
"""The AP bus in /sys: bus/ap and devices/ap."""

from __future__ import annotations

from errno import EINVAL
from functools import partial
from typing import TYPE_CHECKING

from apvfio.model.matrix import Apqn
from apvfio.sim import zcrypt
from apvfio.sim.grammar import check_action, kstrtobool, kstrtoul, refusal, sscanf_d, sscanf_i
from apvfio.sim.nodes import Attribute, SysDirectory, SysLink, shows, shows_flag, shows_mask, takes, uevent

if TYPE_CHECKING:
    from apvfio.sim.bus import Rules
    from apvfio.sim.nodes import Entry
    from apvfio.sim.ownership import Driver

_MAX_TIMEOUT = 120_000_000_000


def bus(rules: Rules) -> SysDirectory:
    """bus/ap (bus:ap_bus_attrs)."""
    state, hardware = rules.state, rules.state.hardware
    entries: dict[str, Entry] = {
        "devices": lambda: SysDirectory(
            {}, lambda: map(_name, rules.bus.devices()), lambda n: _link(rules, n)
        ),
        "drivers": lambda: SysDirectory({d.name: _driver(rules, d) for d in rules.bus.drivers()}),
        "drivers_autoprobe": autoprobe(rules, "ap"),
        "drivers_probe": takes(rules.bus.probe),
        "uevent": takes(check_action),
        "ap_adapter_mask": shows_mask(lambda: state.config.adapters),
        "ap_control_domain_mask": shows_mask(lambda: state.config.control_domains),
        "ap_domain": shows(lambda: state.domain, partial(_store_domain, rules)),
        "ap_interrupts": shows_flag(lambda: True),
        "ap_max_adapter_id": shows(lambda: hardware.max_adapter),
        "ap_max_domain_id": shows(lambda: hardware.max_domain),
        "ap_usage_domain_mask": shows_mask(lambda: state.config.domains),
        "apmask": shows_mask(lambda: state.apmask, partial(rules.bus.store_mask, "apmask")),
        "aqmask": shows_mask(lambda: state.aqmask, partial(rules.bus.store_mask, "aqmask")),
        "bindings": shows(rules.bus.bindings),
        "config_time": shows(lambda: state.config_time, partial(_store_time, rules)),
        "poll_thread": shows(lambda: 0, partial(_store_poll_thread, rules)),
        "poll_timeout": shows(lambda: state.poll_timeout, partial(_store_timeout, rules)),
        "scans": shows(lambda: state.scans, lambda _: rules.bus.scan()),
    }
    if rules.profile.complete_count:
        entries["bindings_complete_count"] = shows(lambda: state.complete_count)
    if rules.profile.features:
        entries["features"] = shows(lambda: hardware.features)
    return SysDirectory(entries)


def devices(rules: Rules) -> SysDirectory:
    """devices/ap: a directory for each card."""
    cards = {f"card{adapter:02x}": partial(_card, rules, adapter) for adapter in rules.state.cards}
    return SysDirectory({**cards, "module": SysLink("module/ap"), "uevent": uevent()})


def autoprobe(rules: Rules, name: str) -> Attribute:
    """A bus' ``drivers_autoprobe`` (dbus:drivers_autoprobe_store)."""
    off = rules.state.no_autoprobe

    def store(text: str) -> None:
        off[:] = [other for other in off if other != name] + [name] * (text[0] == "0")

    return Attribute(lambda: f"{0 if name in off else 1}\n", store)


def _name(device: int | Apqn) -> str:
    return f"card{device:02x}" if isinstance(device, int) else str(device)


def _path(device: int | Apqn) -> str:
    if isinstance(device, int):
        return f"devices/ap/card{device:02x}"
    return f"devices/ap/card{device.adapter:02x}/{device}"


def _link(rules: Rules, name: str) -> SysLink | None:
    device = rules.bus.find(name)
    return None if device is None else SysLink(_path(device))


def _driver(rules: Rules, driver: Driver) -> Entry:
    def mine(name: str) -> SysLink | None:
        device = rules.bus.find(name)
        if device is None or rules.bus.driver_of(device) != driver.name:
            return None
        return SysLink(_path(device))

    return lambda: SysDirectory(
        {
            "bind": takes(partial(rules.bus.bind, driver)),
            "unbind": takes(partial(rules.bus.unbind, driver)),
            "uevent": takes(check_action),
            "module": SysLink(f"module/{driver.module}"),
        },
        lambda: (_name(d) for d in rules.bus.devices() if rules.bus.driver_of(d) == driver.name),
        mine,
    )


def _card(rules: Rules, adapter: int) -> SysDirectory:
    """A card's directory, with its queues in it (card:ap_card_dev_attrs, zc:zcrypt_card_attrs)."""
    state, card = rules.state, rules.state.cards[adapter]
    driver = [f"DRIVER={card.driver}"] if card.driver else []
    entries: dict[str, Entry] = {
        "ap_functions": shows(lambda: f"0x{zcrypt.FUNCTIONS[card.mode]:08X}"),
        "chkstop": shows_flag(lambda: False),
        "config": shows_flag(lambda: card.config, partial(zcrypt.configure_card, state, adapter)),
        "depth": shows(lambda: zcrypt.DEPTH),
        "hwtype": shows(lambda: card.hwtype),
        "max_msg_size": shows(lambda: zcrypt.MAX_MSG_SIZE),
        "modalias": shows(lambda: f"ap:t{card.hwtype:02X}"),
        "pendingq_count": shows(lambda: 0),
        "raw_hwtype": shows(lambda: card.hwtype),
        "request_count": shows(lambda: card.requests, lambda _: zcrypt.clear_requests(state, adapter)),
        "requestq_count": shows(lambda: 0),
        "subsystem": SysLink("bus/ap"),
        "uevent": uevent(
            "DEVTYPE=ap_card",
            *driver,
            f"DEV_TYPE={card.hwtype:04X}",
            f"MODALIAS=ap:t{card.hwtype:02X}",
            f"MODE={card.mode}",
        ),
    }
    if card.driver:
        entries |= {
            "driver": SysLink(f"bus/ap/drivers/{card.driver}"),
            "load": shows(lambda: 0),
            "online": shows_flag(
                lambda: card.config and card.online, partial(zcrypt.switch_card, state, adapter)
            ),
            "type": shows(lambda: zcrypt.card_type(card.mode, card.hwtype)),
            **{name: shows(str) for name in zcrypt.CARD_ANSWERS[card.mode]},
        }

    def find(name: str) -> Entry | None:
        apqn = Apqn.parse(name)
        if apqn is None or apqn not in state.queues or apqn.adapter != adapter:
            return None
        return partial(_queue, rules, apqn)

    return SysDirectory(entries, lambda: map(str, state.queues_of(adapter)), find)


def _queue(rules: Rules, apqn: Apqn) -> SysDirectory:
    """A queue's directory (que:ap_queue_dev_attrs, and what its driver adds)."""
    state, queue = rules.state, rules.state.queues[apqn]
    mode = state.cards[apqn.adapter].mode
    driver = [f"DRIVER={queue.driver}"] if queue.driver else []
    entries: dict[str, Entry] = {
        "chkstop": shows_flag(lambda: False),
        "config": shows_flag(lambda: queue.config),
        "interrupt": shows(lambda: f"Interrupts {'enabled' if queue.interrupts else 'disabled'}."),
        "pendingq_count": shows(lambda: 0),
        "request_count": Attribute(
            lambda: f"{queue.requests if queue.initiated else '-'}\n",
            lambda _: setattr(queue, "requests", 0),
        ),
        "requestq_count": shows(lambda: 0),
        "reset": Attribute(
            lambda: "Reset in progress.\n" if queue.resetting else "No Reset Timer set.\n",
            lambda _: rules.bus.reset(apqn),
        ),
        "subsystem": SysLink("bus/ap"),
        "uevent": uevent("DEVTYPE=ap_queue", *driver, f"MODE={mode}"),
    }
    if rules.profile.features:
        entries["ap_functions"] = shows(lambda: f"0x{zcrypt.FUNCTIONS[mode]:08X}")
    if rules.profile.overrides:
        entries["driver_override"] = shows(lambda: queue.override, partial(rules.bus.store_override, apqn))
    if queue.driver:
        entries["driver"] = SysLink(f"bus/ap/drivers/{queue.driver}")
    if queue.driver == "vfio_ap":
        entries["status"] = shows(lambda: rules.vfio.status(apqn))
    elif queue.driver:
        entries |= _host_queue(rules, apqn, mode)
    return SysDirectory(entries)


def _host_queue(rules: Rules, apqn: Apqn, mode: str) -> dict[str, Entry]:
    """What cex4queue adds (zq:zcrypt_queue_attrs, cex:cca_queue_attrs, ep11_queue_attrs)."""
    queue = rules.state.queues[apqn]
    entries: dict[str, Entry] = {
        "load": shows(lambda: 0),
        "online": shows_flag(
            lambda: queue.config and queue.online, partial(zcrypt.switch_queue, rules.state, apqn)
        ),
    }
    if mode in zcrypt.KEYS:
        entries["mkvps"] = shows(lambda: queue.mkvps or zcrypt.KEYS[mode])
    if mode == "ep11":
        entries["op_modes"] = shows(str)
    return entries


# The bus' settings.


def _store_domain(rules: Rules, text: str) -> None:
    """The default domain: any that the host could have (bus:ap_domain_store)."""
    domain = sscanf_i(text)
    if not 0 <= domain <= rules.state.hardware.max_domain or domain not in rules.state.aqmask:
        raise refusal(EINVAL)
    rules.state.domain = domain


def _store_time(rules: Rules, text: str) -> None:
    """bus:config_time_store."""
    seconds = sscanf_d(text)
    if not 5 <= seconds <= 120:
        raise refusal(EINVAL)
    rules.state.config_time = seconds


def _store_poll_thread(rules: Rules, text: str) -> None:
    """Understood and without effect: there are interrupts (bus:ap_poll_thread_start)."""
    if rules.profile.kstrto:
        kstrtobool(text, long_bools=rules.profile.long_bools)
    else:
        sscanf_d(text)


def _store_timeout(rules: Rules, text: str) -> None:
    """bus:poll_timeout_store."""
    if rules.profile.kstrto:
        timeout, least = kstrtoul(text), 0
    else:
        timeout, least = sscanf_d(text), 1
    if not least <= timeout <= _MAX_TIMEOUT:
        raise refusal(EINVAL)
    rules.state.poll_timeout = timeout

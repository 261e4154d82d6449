# SPDX-License-Identifier: Apache-2.0
"""vfio_ap and its mediated devices in /sys: devices/vfio_ap, bus/matrix, bus/mdev, class, iommu_groups."""

from __future__ import annotations

from errno import EINVAL, ENODEV
from functools import partial
from typing import TYPE_CHECKING

from apvfio.model.matrix import Matrix
from apvfio.sim.grammar import check_action, device_name, refusal
from apvfio.sim.nodes import Attribute, SysDirectory, SysLink, shows, takes, uevent
from apvfio.sim.tree_ap import autoprobe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apvfio.sim.bus import Rules
    from apvfio.sim.nodes import Entry
    from apvfio.sim.state import Mdev

_MATRIX = "devices/vfio_ap/matrix"
_TYPE = "vfio_ap-passthrough"
_DRIVER = "vfio_ap_mdev"
_VFIO_MAJOR = 252
_GROUP_MAJOR = 253


def devices(rules: Rules) -> SysDirectory:
    """devices/vfio_ap (vdrv:vfio_ap_matrix_dev_create)."""
    return SysDirectory(
        {"matrix": lambda: _parent(rules), "module": SysLink("module/vfio_ap"), "uevent": uevent()},
    )


def matrix_bus(rules: Rules) -> SysDirectory:
    """bus/matrix, which has one device."""
    link = SysLink(_MATRIX)
    return SysDirectory(
        {
            "devices": lambda: SysDirectory({"matrix": link}),
            "drivers": lambda: SysDirectory(
                {"vfio_ap": lambda: SysDirectory({"matrix": link, "uevent": takes(check_action)})}
            ),
            **_bus_files(rules, "matrix", lambda: {"matrix"}),
        }
    )


def mdev_bus(rules: Rules) -> SysDirectory:
    """bus/mdev (mdrv:mdev_bus_type)."""
    return SysDirectory(
        {
            "devices": lambda: _links(rules.state.mdevs),
            "drivers": lambda: SysDirectory(
                {_DRIVER: lambda: _mdev_driver(rules)} if rules.state.loaded("vfio_ap") else {}
            ),
            **_bus_files(rules, "mdev", lambda: set(rules.state.mdevs)),
        }
    )


def mdev_class(rules: Rules) -> SysDirectory:
    """class/mdev_bus: the parents of mediated devices."""
    return SysDirectory({"matrix": SysLink(_MATRIX)} if rules.state.loaded("vfio_ap") else {})


def vfio_class(rules: Rules) -> SysDirectory:
    """class/vfio: the groups that can be opened."""
    return SysDirectory(
        {str(mdev.group): SysLink(f"devices/virtual/vfio/{mdev.group}") for _, mdev in _bound(rules)}
    )


def vfio_dev_class(rules: Rules) -> SysDirectory:
    """class/vfio-dev: the devices that can be opened."""
    return SysDirectory(
        {
            f"vfio{mdev.group}": SysLink(f"{_MATRIX}/{uuid}/vfio-dev/vfio{mdev.group}")
            for uuid, mdev in _bound(rules)
        }
    )


def virtual(rules: Rules) -> SysDirectory:
    """devices/virtual: the groups again, where there are any."""
    groups = {str(mdev.group): _virtual_group(mdev.group) for _, mdev in _bound(rules)}
    return SysDirectory({"vfio": lambda: SysDirectory(groups)} if groups else {})


def iommu_groups(rules: Rules) -> SysDirectory:
    """kernel/iommu_groups: one for each bound device (vgrp:vfio_noiommu_group_alloc)."""
    return SysDirectory({str(mdev.group): _iommu_group(uuid) for uuid, mdev in _bound(rules)})


def _refuses(number: int) -> Callable[[str], None]:
    """A store that never succeeds."""

    def store(_: str) -> None:
        raise refusal(number)

    return store


def _links(mdevs: Mapping[str, Mdev]) -> SysDirectory:
    """A link to each of these devices."""
    return SysDirectory({}, mdevs.keys, lambda name: SysLink(f"{_MATRIX}/{name}") if name in mdevs else None)


def _bound(rules: Rules) -> list[tuple[str, Mdev]]:
    return [(uuid, mdev) for uuid, mdev in rules.state.mdevs.items() if mdev.bound]


def _bus_files(rules: Rules, name: str, devices: Callable[[], set[str]]) -> dict[str, Entry]:
    """What every bus has; no driver of these two looks for devices by itself (mdrv:mdev_match)."""

    def probe(text: str) -> None:
        if device_name(text) not in devices():
            raise refusal(ENODEV)

    return {
        "drivers_autoprobe": autoprobe(rules, name),
        "drivers_probe": takes(probe),
        "uevent": takes(check_action),
    }


def _parent(rules: Rules) -> SysDirectory:
    """The matrix device, parent of all mediated devices."""
    types = {_TYPE: lambda: _type(rules)}
    entries: dict[str, Entry] = {
        "driver": SysLink("bus/matrix/drivers/vfio_ap"),
        "mdev_supported_types": lambda: SysDirectory({**types}),
        "subsystem": SysLink("bus/matrix"),
        "uevent": uevent("DRIVER=vfio_ap"),
    }
    if rules.profile.ap_config:
        migratable = " migratable" if rules.profile.migratable else ""
        entries["features"] = shows(lambda: f"guest_matrix hotplug ap_config{migratable}")
    mdevs = rules.state.mdevs
    return SysDirectory(
        entries, mdevs.keys, lambda name: (lambda: _mdev(rules, name)) if name in mdevs else None
    )


def _type(rules: Rules) -> SysDirectory:
    """The one type of mediated device (msys:mdev_type_add)."""
    return SysDirectory(
        {
            "available_instances": shows(rules.vfio.available_instances),
            "create": takes(rules.vfio.create),
            "device_api": shows(lambda: "vfio-ap"),
            "devices": lambda: _links(rules.state.mdevs),
            "name": shows(lambda: "VFIO AP Passthrough Device"),
        }
    )


def _mdev_driver(rules: Rules) -> SysDirectory:
    def unbind(text: str) -> None:
        uuid = device_name(text)
        if uuid not in dict(_bound(rules)):
            raise refusal(ENODEV)
        rules.vfio.release(uuid)

    return SysDirectory(
        {
            **{uuid: SysLink(f"{_MATRIX}/{uuid}") for uuid, _ in _bound(rules)},
            # A device gets its driver when it is made, and never again (mdrv:mdev_match).
            "bind": takes(_refuses(ENODEV)),
            "unbind": takes(unbind),
            "module": SysLink("module/vfio_ap"),
            "uevent": takes(check_action),
        }
    )


def _mdev(rules: Rules, uuid: str) -> SysDirectory:
    """A mediated device (msys:mdev_create_sysfs_files, vops:vfio_ap_mdev_attrs)."""
    vfio, mdev = rules.vfio, rules.state.mdevs[uuid]
    entries: dict[str, Entry] = {
        "mdev_type": SysLink(f"{_MATRIX}/mdev_supported_types/{_TYPE}"),
        "remove": takes(partial(vfio.remove, uuid)),
        "subsystem": SysLink("bus/mdev"),
        "uevent": uevent(f"DRIVER={_DRIVER}") if mdev.bound else uevent(),
    }
    if not mdev.bound:
        return SysDirectory(entries)
    entries |= {
        "control_domains": Attribute(
            lambda: "".join(f"{domain:04x}\n" for domain in mdev.matrix.control_domains)
        ),
        "driver": SysLink(f"bus/mdev/drivers/{_DRIVER}"),
        "guest_matrix": Attribute(lambda: vfio.show(mdev.guest_matrix)),
        "iommu_group": SysLink(f"kernel/iommu_groups/{mdev.group}"),
        "matrix": Attribute(lambda: vfio.show(mdev.matrix)),
        "vfio-dev": lambda: SysDirectory({f"vfio{mdev.group}": _vfio_device(uuid, mdev.group)}),
    }
    for dimension, name in zip(Matrix._fields, ("adapter", "domain", "control_domain")):
        entries[f"assign_{name}"] = takes(partial(vfio.assign, mdev, dimension))
        entries[f"unassign_{name}"] = takes(partial(vfio.unassign, mdev, dimension))
    if rules.profile.ap_config:
        entries["ap_config"] = Attribute(
            lambda: f"{mdev.matrix.as_ap_config()}\n", partial(vfio.store_ap_config, mdev)
        )
    return SysDirectory(entries)


def _vfio_device(uuid: str, number: int) -> Entry:
    entries: dict[str, Entry] = {
        **_device_node(_VFIO_MAJOR, number, f"vfio/devices/vfio{number}"),
        "device": SysLink(f"{_MATRIX}/{uuid}"),
        "subsystem": SysLink("class/vfio-dev"),
    }
    return lambda: SysDirectory(entries)


def _virtual_group(number: int) -> Entry:
    entries: dict[str, Entry] = {
        **_device_node(_GROUP_MAJOR, number, f"vfio/{number}"),
        "subsystem": SysLink("class/vfio"),
    }
    return lambda: SysDirectory(entries)


def _device_node(major: int, minor: int, name: str) -> dict[str, Entry]:
    return {
        "dev": shows(lambda: f"{major}:{minor}"),
        "uevent": uevent(f"MAJOR={major}", f"MINOR={minor}", f"DEVNAME={name}"),
    }


def _iommu_group(uuid: str) -> Entry:
    devices: dict[str, Entry] = {uuid: SysLink(f"{_MATRIX}/{uuid}")}
    return lambda: SysDirectory(
        {
            "devices": lambda: SysDirectory(devices),
            "name": shows(lambda: "vfio-noiommu"),
            "reserved_regions": Attribute(str),
            # Without an IOMMU there is nothing to choose (iommu.c:iommu_group_store_type).
            "type": Attribute(lambda: "unknown\n", _refuses(EINVAL)),
        }
    )

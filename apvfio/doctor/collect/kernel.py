# SPDX-License-Identifier: Apache-2.0
"""The AP bus, its drivers and its queues."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from apvfio.doctor.facts import (
    BLACKLISTED,
    NO_MODULE,
    KernelFacts,
    Partition,
    attempt,
    known,
    otherwise,
)
from apvfio.engine.differences import has_boot_masks
from apvfio.install.checks import lacks_module
from apvfio.kernel.lszcrypt import read_cards
from apvfio.kernel.snapshot import in_use, read_host, read_or
from apvfio.model.host import AP_MDEVS, BUS, HOST_DRIVER
from apvfio.model.ids import NO_IDS, parse_hex
from apvfio.store.system import on_this_machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.host import Host
    from apvfio.model.ids import IdSet
    from apvfio.model.matrix import Apqn

_MODPROBE = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
"""modprobe.d(5)."""
_VFIO_NODE = "/dev/vfio/vfio"
_KVM = "/dev/kvm"
_SYMBOLS = "/proc/kallsyms"


def look_at_kernel(system: System) -> KernelFacts:
    """What there is of AP; only on this machine its modules can be asked for."""
    sysfs, here = system.sysfs, on_this_machine(system)
    host = attempt(partial(read_host, sysfs))
    there = known(host)
    module, blocked_by = _module() if here and not (there and there.vfio_ap) else ("", "")
    return KernelFacts(
        machine=os.uname().machine if here else "",
        host=host,
        partition=Partition(
            *(_mask(sysfs, f"ap_{name}_mask") for name in ("adapter", "usage_domain", "control_domain"))
        ),
        cards=tuple(otherwise(lambda: list(read_cards(sysfs)), [])),
        overrides=_overrides(sysfs, there) if there and there.abilities.override else {},
        has_host_driver=sysfs.exists(f"{BUS}/drivers/{HOST_DRIVER}"),
        autoprobe=otherwise(lambda: sysfs.read(f"{BUS}/drivers_autoprobe").strip(), "1") != "0",
        boot_masks=has_boot_masks(sysfs),
        module=module,
        blocked_by=blocked_by,
        vfio_node=not here or os.path.exists(_VFIO_NODE),
        kvm=not here or os.path.exists(_KVM),
        attached=frozenset(uuid for uuid in there.mdevs if is_attached(system, there, uuid))
        if there
        else frozenset(),
        bus=sysfs.exists(f"{BUS}/apmask"),
        guest_matrix=has_guest_matrix(sysfs, there, _SYMBOLS if here else "") if there else True,
    )


def has_guest_matrix(sysfs: Sysfs, host: Host, symbols: str) -> bool:
    """Whether mediated devices of ``host`` have the file ``guest_matrix``; True also if nothing tells.

    A device shows it; else the list of features does, which is younger than the file; else the kernel's
    ``symbols``, a path, have the function (vops:guest_matrix_show), and those of the module at all.
    """
    devices = [AP_MDEVS.device(uuid) for uuid in host.mdevs]
    if devices:
        return any(sysfs.exists(f"{device}/guest_matrix") for device in devices)
    features = read_or(sysfs, f"{AP_MDEVS.parent}/features", "").split()
    if features or not symbols or not host.vfio_ap:
        return not features or "guest_matrix" in features
    with suppress(OSError), open(symbols, encoding="ascii", errors="replace") as file:
        names = {words[2] for words in map(str.split, file) if len(words) > 2}
        ours = any(name.startswith("vfio_ap_mdev_") for name in names)
        return not ours or "guest_matrix_show" in names
    return True


def _mask(sysfs: Sysfs, name: str) -> IdSet:
    # Without QCI it reads "not supported" (bus:ap_adapter_mask_show).
    return otherwise(lambda: parse_hex(sysfs.read(f"{BUS}/{name}"), name), NO_IDS)


def _overrides(sysfs: Sysfs, host: Host) -> Mapping[Apqn, str]:
    found = {}
    for queue in host.drivers:
        text = otherwise(partial(sysfs.read, f"{BUS}/devices/{queue}/driver_override"), "").removesuffix("\n")
        if text and text != "(null)":
            found[queue] = text
    return found


def is_attached(system: System, host: Host, mdev: str) -> bool:
    """Whether a guest has the mediated device, or a process has it open."""
    matrix = host.mdevs.get(mdev)
    if matrix is None:
        return False
    return any(in_use(system.sysfs, queue) for queue in matrix.queues()) or system.opener(mdev) is not None


def _module() -> tuple[str, str]:
    """What keeps vfio_ap from being loaded, and which line of which file."""
    for directory in _MODPROBE:
        for name in sorted(otherwise(partial(os.listdir, directory), list[str]())):
            path = os.path.join(directory, name)
            for line in otherwise(partial(_lines, path), list[str]()):
                words = line.split()
                # "blacklist" only keeps a module from being loaded by an alias, and vfio_ap has none.
                if words[:1] == ["install"] and words[1:2] in (["vfio_ap"], ["vfio-ap"]):
                    return BLACKLISTED, f"{path}: {line.strip()}"
    return (NO_MODULE, "") if lacks_module() else ("", "")


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readlines() if path.endswith(".conf") else []

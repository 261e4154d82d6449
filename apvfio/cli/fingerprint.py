# SPDX-License-Identifier: Apache-2.0
"""Whether anything has changed on a host: a few dozen reads, however many queues it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import in_use
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS, BUS, HOST_DRIVER, MASK_NAMES, VFIO_DRIVER
from apvfio.store.ledger_file import LEDGER
from apvfio.store.policy_file import POLICY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.matrix import Apqn

_LISTS = (
    f"{BUS}/devices",
    AP_MDEVS.devices,
    *(f"{BUS}/drivers/{driver}" for driver in (HOST_DRIVER, VFIO_DRIVER)),
)


def fingerprint(system: System, probes: Iterable[Apqn]) -> tuple[object, ...]:
    """Something that differs from what it was before if an owner, a mask, a lease or a debt does.

    So it does if one of ``probes`` is attached to a guest or let go: a device's queues are all at
    once (vops:vfio_ap_mdev_set_kvm). That a queue goes offline, or a guest dies, it does not show.
    """
    return (
        *(_read(system.sysfs, f"{BUS}/{name}") for name in MASK_NAMES),
        *(_list(system.sysfs, path) for path in _LISTS),
        *(in_use(system.sysfs, queue) for queue in probes),
        *(_file(system, path) for path in (LEDGER, POLICY)),
    )


def _read(sysfs: Sysfs, path: str) -> str | None:
    try:
        return sysfs.read(path)
    except OSError:
        return None


def _list(sysfs: Sysfs, path: str) -> list[str] | None:
    try:
        return sysfs.list(path)
    except OSError:
        return None


def _file(system: System, path: str) -> str | None:
    try:
        return system.files.read(path)
    except ApvfioError as error:
        return str(error)

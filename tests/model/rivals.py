# SPDX-License-Identifier: Apache-2.0
"""The others on a host: chzdev, mdevctl with and without ap-check, an administrator with a shell.

Each works on the seam as the real one does on /sys, and knows nothing of apvfio.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import read_mask, read_matrix
from apvfio.model.host import AP_MDEVS, BUS, MASK_NAMES
from apvfio.model.ids import format_hex
from apvfio.model.matrix import Matrix

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from apvfio.kernel.seam import Sysfs
    from apvfio.model.mask_grammar import MaskSpec

    Lock = Callable[[], AbstractContextManager[object]]


def chzdev(sysfs: Sysfs, edits: dict[str, MaskSpec], lock: Lock = nullcontext) -> bool:
    """``chzdev -a``: False if it finds a conflict itself; what the kernel refuses it does not notice.

    It reads under the lock and writes under the lock, but not under the same, and writes whole masks
    (zdev/src/ap.c: ap_read_settings, ap_devtype_write_settings).
    """
    with lock():
        old = {name: read_mask(sysfs, name) for name in MASK_NAMES}
    new = {name: edits[name].apply(mask) if name in edits else mask for name, mask in old.items()}
    with lock():
        for name, mask in new.items():
            if mask - old[name] and _conflicts(sysfs, Matrix(new["apmask"], new["aqmask"]), name, old[name]):
                return False
        for name in edits:
            if new[name] != old[name]:
                with suppress(OSError):
                    sysfs.write(f"{BUS}/{name}", format_hex(new[name]))
    return True


def mdevctl_start(sysfs: Sysfs, uuid: str, matrix: Matrix) -> bool:
    """``mdevctl start`` without ap-check: an attribute after the other, and a remove if one fails."""
    try:
        sysfs.write(AP_MDEVS.create, uuid)
    except OSError:
        return False
    try:
        for kind, ids in zip(("adapter", "domain", "control_domain"), matrix):
            for i in ids:
                sysfs.write(f"{AP_MDEVS.device(uuid)}/assign_{kind}", f"{i}")
    except OSError:
        mdevctl_stop(sysfs, uuid)
        return False
    return True


def mdevctl_stop(sysfs: Sysfs, uuid: str) -> None:
    """``mdevctl stop``; it is nothing to it if the device is gone already."""
    with suppress(OSError):
        sysfs.write(AP_MDEVS.remove(uuid), "1")


def checked_start(sysfs: Sysfs, uuid: str, matrix: Matrix, lock: Lock) -> bool:
    """``mdevctl start`` with ap-check, which takes the lock before and holds it until after (ap-check.c)."""
    with lock():
        apmask, aqmask = (read_mask(sysfs, name) for name in MASK_NAMES)
        taken = (held for _, held in devices(sysfs))
        if any(not matrix.overlap(held).empty for held in (Matrix(apmask, aqmask), *taken)):
            return False
        return mdevctl_start(sysfs, uuid, matrix)


def devices(sysfs: Sysfs) -> list[tuple[str, Matrix]]:
    """The mediated devices there are, with what they hold."""
    found = []
    with suppress(OSError):
        for uuid in sysfs.list(AP_MDEVS.devices):
            with suppress(OSError):
                found.append((uuid, read_matrix(sysfs, uuid)))
    return found


def override(sysfs: Sysfs, queue: str, driver: str) -> None:
    """An administrator moves a queue by ``driver_override``; '' takes it back."""
    with suppress(OSError):
        sysfs.write(f"{BUS}/devices/{queue}/driver_override", driver or "\n")
        rebind(sysfs, queue)


def rebind(sysfs: Sysfs, queue: str) -> None:
    """Take a queue from its driver and find it one anew."""
    for driver in ("cex4queue", "vfio_ap"):
        unbind(sysfs, queue, driver)
    with suppress(OSError):
        sysfs.write(f"{BUS}/drivers_probe", queue)


def unbind(sysfs: Sysfs, queue: str, driver: str) -> None:
    """Take a queue from ``driver``, if that has it."""
    with suppress(OSError):
        sysfs.write(f"{BUS}/drivers/{driver}/unbind", queue)


def _conflicts(sysfs: Sysfs, new: Matrix, name: str, old: object) -> bool:
    """Whether a device has a queue that the added bits would make the host's."""
    for _, held in devices(sysfs):
        both = held.overlap(new)
        added = (both.adapters if name == "apmask" else both.domains) - old  # type: ignore[operator]
        if added and not both.empty:
            return True
    return False

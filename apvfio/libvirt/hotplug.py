# SPDX-License-Identifier: Apache-2.0
"""Plug the vfio-ap device into a running guest, and unplug it, through libvirt.

libvirt calls no hook for either. The caller creates the device before it is plugged in, and returns its
queues after it is unplugged.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.domain.annotation import refusal_of
from apvfio.domain.request import HOSTDEV_XML, parse_device
from apvfio.domain.xml_editor import left_by_libvirt
from apvfio.model.errors import ApvfioError, RequestError

if TYPE_CHECKING:
    from apvfio.libvirt.guests import Guest

PATIENCE = 30.0
"""Seconds that QEMU has to release a device. libvirt itself waits for five and then reports success."""
_NAP = 0.1


def attached(guest: Guest) -> str | None:
    """The uuid, lower case, of the mediated device that the running ``guest`` has; None if it has none."""
    device = parse_device(guest.xml(live=True))
    return device.mdev if device else None


def require_replaceable(guest: Guest) -> None:
    """RequestError if the running ``guest`` would keep more of apvfio's namespaces than its annotation."""
    stray = left_by_libvirt(guest.xml(live=True))
    if stray:
        raise RequestError(
            f"its running configuration has {refusal_of(stray).clause}; "
            "libvirt replaces the annotation of a running guest only.",
            guest=guest.name,
            remedy="Omit --live to remove the rest for the next start.",
        )


def attach(guest: Guest, mdev: str) -> None:
    """Plug the existing mediated device ``mdev`` into the running ``guest``.

    It is no error if the guest has it already. If libvirt refuses, ApvfioError has its reason, and nothing
    has changed.
    """
    now = attached(guest)
    if now == mdev.lower():
        return
    if now:
        sentence = f"it has the vfio-ap device {now} already, and a guest can have one."
        remedy = "Unplug that device first: 'apvfio guest clear --live'."
        raise RequestError(sentence, guest=guest.name, remedy=remedy)
    guest.plug(HOSTDEV_XML.format(mdev))


def detach(guest: Guest, *, patience: float = PATIENCE) -> str | None:
    """Unplug the vfio-ap device of the running ``guest``, and wait until QEMU has released it.

    Return the device's uuid, None if the guest has none. ApvfioError if libvirt refuses, or if QEMU has not
    released the device after ``patience`` seconds; it may still do so later. The mediated device stays.
    """
    mdev = attached(guest)
    if mdev is None:
        return None
    deadline = time.monotonic() + patience
    guest.unplug(HOSTDEV_XML.format(mdev))
    # The device leaves the guest's XML only after QEMU has reported the end of the unplugging.
    while guest.active and attached(guest) == mdev:
        if time.monotonic() > deadline:
            sentence = f"it did not release its mediated device {mdev} within {patience:g} s."
            raise ApvfioError(
                sentence, guest=guest.name, remedy="Check whether the guest responds, then try again."
            )
        time.sleep(_NAP)
    return mdev

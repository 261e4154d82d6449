# SPDX-License-Identifier: Apache-2.0
"""The places of a parent's mediated devices below /sys (mdev_core.c, mdev_sysfs.c), and of definitions."""

from __future__ import annotations

_HEX = frozenset("0123456789abcdefABCDEF")


class MdevType:
    """One type of mediated device that one parent device offers.

    ``parent`` is the parent's directory, ``devices/vfio_ap/matrix`` for example.
    """

    def __init__(self, parent: str, name: str) -> None:
        self.parent = parent
        self.name = name

    @property
    def directory(self) -> str:
        """The type's own directory."""
        return f"{self.parent}/mdev_supported_types/{self.name}"

    @property
    def create(self) -> str:
        """The attribute that makes a device of the uuid written to it (msys:create_store)."""
        return f"{self.directory}/create"

    @property
    def devices(self) -> str:
        """The directory with a link for each device of this type."""
        return f"{self.directory}/devices"

    def device(self, uuid: str) -> str:
        """The directory of one device."""
        return f"{self.parent}/{uuid}"

    def remove(self, uuid: str) -> str:
        """Return the attribute that removes a device; the write blocks while a process has it open."""
        return f"{self.device(uuid)}/remove"

    @property
    def definitions(self) -> str:
        """Return mdevctl's directory of the definitions for the parent, of this and other types."""
        return f"etc/mdevctl.d/{self.parent.rpartition('/')[2]}"

    def definition(self, uuid: str) -> str:
        """mdevctl's file of one persistent device, see `apvfio.mdev.definitions`."""
        return f"{self.definitions}/{uuid}"


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a uuid as ``create`` takes it: 8-4-4-4-12 hexadecimal digits of any case."""
    parts = text.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and _HEX.issuperset("".join(parts))

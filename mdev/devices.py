# SPDX-License-Identifier: Apache-2.0
"""Where a parent's mediated devices are in sysfs (mdev_core.c, mdev_sysfs.c); paths below /sys."""

from __future__ import annotations

from typing import NamedTuple

_HEX = frozenset("0123456789abcdefABCDEF")


class MdevType(NamedTuple):
    """One type of mediated device that one parent device offers."""

    parent: str
    """The parent's directory, ``devices/vfio_ap/matrix`` for example."""
    name: str

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
        """The attribute that removes a device; the write blocks while somebody has it open."""
        return f"{self.device(uuid)}/remove"


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a uuid as ``create`` takes it: 8-4-4-4-12 hexadecimal digits of any case."""
    parts = text.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and _HEX.issuperset("".join(parts))

# SPDX-License-Identifier: Apache-2.0
"""The house of this tier: real AP drivers on emulated hardware, real libvirtd, KVM guests."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from apvfio.guests import annotation
from apvfio.matrix import Matrix
from apvfio.request import NAMESPACE
from apvfio.system import RealSystem

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    if not os.environ.get("APVFIO_MACHINE"):
        skip = pytest.mark.skip(reason="runs inside the machine with emulated AP hardware: tests/machine/run")
        for item in items:
            if str(item.path).startswith(here):
                item.add_marker(skip)


DOMAIN = """\
<domain type='kvm'>
  <name>{name}</name>
  {metadata}
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='s390x' machine='s390-ccw-virtio'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-s390x</emulator>
    <memballoon model='none'/>
    {hostdev}
  </devices>
</domain>
"""
HOSTDEV = (
    "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-ap'>"
    "<source><address uuid='{}'/></source></hostdev>"
)


class MachineHouse:
    """This machine."""

    def __init__(self, directory: str) -> None:
        self.system = RealSystem()
        self._directory = directory
        self._names: list[str] = []

    def virsh(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["virsh", "-c", "qemu:///system", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def define(self, name: str, wish: Matrix | None, device: str | None) -> None:
        inside = annotation(wish).replace("<guest>", f"<guest xmlns='{NAMESPACE}'>") if wish else ""
        text = DOMAIN.format(
            name=name,
            metadata=f"<metadata>{inside}</metadata>" if wish else "",
            hostdev=HOSTDEV.format(device) if device else "",
        )
        path = os.path.join(self._directory, f"{name}.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.virsh("define", path)
        self._names.append(name)

    def close(self) -> None:
        for name in self._names:
            self.virsh("destroy", name, check=False)
            self.virsh("undefine", name, check=False)


@pytest.fixture
def house(tmp_path: object) -> Iterator[MachineHouse]:
    made = MachineHouse(str(tmp_path))
    yield made
    made.close()

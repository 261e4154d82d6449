# SPDX-License-Identifier: Apache-2.0
"""The environment of the machine tier: real AP drivers on emulated hardware, real libvirtd, KVM guests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from apvfio.domain.xml_reader import NAMESPACE
from apvfio.libvirt.guests import annotation
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.model.matrix import Matrix

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


DAEMON_PID = "/run/libvirtd.pid"


class MachineEnv:
    """This machine."""

    python = "/usr/bin/python3"
    starts_quickly = False

    def __init__(self) -> None:
        self.system = RealSystem()
        self._names: list[str] = []

    def virsh(self, *words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = self.run(["virsh", "-q", "-c", "qemu:///system", *words], stdin=stdin)
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(self, argv: Sequence[str], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    def path(self, inner: str) -> str:
        return inner

    def xml(self, name: str, requested: Matrix | None, device: str | None) -> str:
        inside = annotation(requested).replace("<guest>", f"<guest xmlns='{NAMESPACE}'>") if requested else ""
        return DOMAIN.format(
            name=name,
            metadata=f"<metadata>{inside}</metadata>" if requested else "",
            hostdev=HOSTDEV.format(device) if device else "",
        )

    def define(self, name: str, requested: Matrix | None, device: str | None) -> None:
        self.define_xml(name, self.xml(name, requested, device))

    def define_xml(self, name: str, xml: str) -> None:
        self.virsh("define", "/proc/self/fd/0", stdin=xml)
        self._names.append(name)

    def clean(self) -> None:
        for name in self._names:
            self.virsh("destroy", name, check=False)
            self.virsh("undefine", "--managed-save", name, check=False)
        self._names.clear()

    def start_daemon(self) -> None:
        assert self.run(["libvirtd", "-d"]).returncode == 0
        deadline = time.monotonic() + 60
        while self.virsh("version", check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)

    def stop_daemon(self) -> None:
        self._end_daemon(signal.SIGTERM)

    def crash_daemon(self) -> None:
        self._end_daemon(signal.SIGKILL)

    def reload_daemon(self) -> None:
        os.kill(_daemon(), signal.SIGHUP)

    def _end_daemon(self, number: int) -> None:
        pid = _daemon()
        os.kill(pid, number)
        while os.path.exists(f"/proc/{pid}/exe"):
            time.sleep(0.05)


def _daemon() -> int:
    with open(DAEMON_PID, encoding="ascii") as file:
        return int(file.read())

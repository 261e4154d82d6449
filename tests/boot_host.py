# SPDX-License-Identifier: Apache-2.0
"""A machine to boot as a host of guests: libvirt with an emulator that idles, AP hardware, or none."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from boot_container import CHECKOUT, HERE, until
from lab.guest import EMULATOR, IDLE, KERNEL

if TYPE_CHECKING:
    from boot_container import Computer

HARDWARE = f"""\
[Unit]
Description=AP hardware
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup-dev.service
Before=sysinit.target

[Service]
Type=forking
KillMode=none
Environment=PYTHONPATH={CHECKOUT}:{HERE}
ExecStart={sys.executable} {HERE}/ap_hardware.py

[Install]
WantedBy=sysinit.target
"""


def lay_out(computer: Computer) -> None:
    """Write what it needs, before its first boot; what the machine's own guests had is not its."""
    shutil.rmtree(computer.path("/var/lib/apvfio"), ignore_errors=True)
    with open(os.path.join(HERE, "lab", "emulator.sh"), "rb") as emulator:
        computer.write(EMULATOR, emulator.read(), 0o755)
    computer.write(KERNEL, IDLE)
    computer.write(
        "/etc/libvirt/qemu.conf",
        'security_driver = "none"\nnamespaces = [ ]\ncgroup_controllers = [ ]\nremember_owner = 0\n',
    )
    if CHECKOUT.startswith("/tmp/"):
        computer.write("/etc/systemd/system/service.d/boot-test.conf", "[Service]\nPrivateTmp=no\n")
    computer.write("/etc/systemd/system/ap-hardware.service", HARDWARE)
    # With some control groups libvirt insists on all of them; a container has not all to give.
    computer.write(
        "/etc/systemd/system/libvirtd.service.d/boot-test.conf",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=\n"
        "ExecStart=unshare --mount sh -c 'umount -R -l /sys/fs/cgroup && exec libvirtd --timeout 120'\n",
    )


def switched_on(computer: Computer, hardware: str = "/etc/systemd/system/ap-hardware.service") -> None:
    """Boot with AP hardware, or without if ``hardware`` is /dev/null."""
    computer.symlink(hardware, "/etc/systemd/system/sysinit.target.wants/ap-hardware.service")
    computer.boot()
    until(lambda: computer.run("virsh", "-c", "qemu:///system", "list").returncode == 0)

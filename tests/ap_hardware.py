# SPDX-License-Identifier: Apache-2.0
"""AP hardware for a machine that boots: a simulated kernel, newly loaded, in its /sys.

Run as the machine's first service; what it mounts and serves ends with the machine. A simulated
kernel sends no events, so udev is told to act as if the AP bus had just come: it sets stored masks.
"""

from __future__ import annotations

import os
import subprocess
import sys

from apvfio.model.ids import IdSet
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from lab.inside import make_vfio_nodes, mount_host, show_in_sys

ADAPTERS = {0: "accel", 1: "cca", 2: "cca", 10: "ep11"}
DOMAINS = IdSet([1, 2, 4, 0x1B])
_WORK = "/run/ap-hardware"
# udev doubts what it finds outside of a real sysfs.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}


def main() -> int:
    """Switch it on."""
    os.mkdir(_WORK, 0o700)
    os.mkdir(f"{_WORK}/host")
    create_sim(f"{_WORK}/kernel.json", SimKernel.new(adapters=ADAPTERS, domains=DOMAINS))
    mount_host(f"{_WORK}/kernel.json", f"{_WORK}/host")
    show_in_sys(f"{_WORK}/host/sys")
    make_vfio_nodes()
    udev = ["udevadm", "test", "--action=add", "/sys/bus/ap"]
    return subprocess.run(udev, capture_output=True, env=_ENVIRONMENT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

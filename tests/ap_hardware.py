# SPDX-License-Identifier: Apache-2.0
"""AP hardware for a machine that boots: a simulated kernel, newly loaded, in its /sys.

Run as the machine's first service; what it mounts and serves ends with the machine. It also
plays udev's part, which sees no events of a simulated kernel: the rule with the stored masks.
"""

from __future__ import annotations

import os
import sys

from apvfio import chzdev
from apvfio.host import BUS, MASK_NAMES
from apvfio.lab.inside import make_vfio_nodes, mount_host, show_in_sys
from apvfio.mask import IdSet, format_hex
from apvfio.sim.kernel import SimKernel
from apvfio.sim.store import create_sim
from apvfio.system import RealFiles, RealSysfs

ADAPTERS = {0: "accel", 1: "cca", 2: "cca", 10: "ep11"}
DOMAINS = IdSet([1, 2, 4, 0x1B])
_WORK = "/run/ap-hardware"


def main() -> int:
    """Switch it on."""
    os.mkdir(_WORK, 0o700)
    os.mkdir(f"{_WORK}/host")
    create_sim(f"{_WORK}/kernel.json", SimKernel.new(adapters=ADAPTERS, domains=DOMAINS))
    mount_host(f"{_WORK}/kernel.json", f"{_WORK}/host")
    show_in_sys(f"{_WORK}/host/sys")
    make_vfio_nodes()
    for name, stored in zip(MASK_NAMES, chzdev.load(RealFiles()), strict=True):
        if stored is not None:
            RealSysfs().write(f"{BUS}/{name}", format_hex(stored))
    return 0


if __name__ == "__main__":
    sys.exit(main())

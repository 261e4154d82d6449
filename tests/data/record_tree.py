# SPDX-License-Identifier: Apache-2.0
"""Prints the part of /sys that is simulated; run on a machine to make tree-*.txt.

Needs the machine of record.sh with the domains 1 and 2, and root. It frees adapter 0, makes a
mediated device and gives it 00.0001.
"""

import json
import os
import stat
import sys

TOPS = [
    "bus/ap",
    "bus/matrix",
    "bus/mdev",
    "class/mdev_bus",
    "class/vfio",
    "class/vfio-dev",
    "devices/ap",
    "devices/vfio_ap",
    "devices/virtual/vfio",
    "kernel/iommu_groups",
    "module/ap/holders",
    "module/ap/initstate",
    "module/zcrypt_cex4/holders",
    "module/zcrypt_cex4/initstate",
    "module/vfio_ap/holders",
    "module/vfio_ap/initstate",
]
UUID = "11111111-1111-4111-8111-111111111111"
MDEV = f"devices/vfio_ap/matrix/{UUID}"
WRITES = (
    ("bus/ap/apmask", "-0"),
    ("devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create", UUID),
    (f"{MDEV}/assign_adapter", "0"),
    (f"{MDEV}/assign_domain", "1"),
    (f"{MDEV}/assign_control_domain", "2"),
)


def line(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"{path} -> {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return f"{path}/ {stat.S_IMODE(mode):o}"
    if os.path.basename(path) == "request_count":
        with open(path, "w") as file:
            file.write("0")
    text = ""
    if mode & 0o444:
        with open(path) as file:
            text = json.dumps(file.read())
    return f"{path} {stat.S_IMODE(mode):o} {text}".rstrip()


def walk(path: str) -> None:
    print(line(path))
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            walk(f"{path}/{name}")


if __name__ == "__main__":
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else "/sys")
    for file_path, value in WRITES:
        with open(file_path, "w") as attribute:
            attribute.write(value)
    for top in TOPS:
        walk(top)

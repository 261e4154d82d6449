# SPDX-License-Identifier: Apache-2.0
"""Which queue of a node is whose, as its kernel shows it to who looks from outside."""

from __future__ import annotations

import os
from contextlib import suppress

HOST = "host"
_HOST_DRIVER = "cex4queue"


def queue_owners(root: str) -> dict[str, list[str]]:
    """By queue its owners below the root directory ``root``: UUIDs of mediated devices, and `HOST`.

    OSError if the host ends meanwhile. What changes between two reads can look as if it had two owners.
    """
    owners: dict[str, list[str]] = {}
    matrix = f"{root}/sys/devices/vfio_ap/matrix"
    for name in os.listdir(matrix):
        if len(name) == 36:
            with suppress(FileNotFoundError), open(f"{matrix}/{name}/matrix", encoding="ascii") as file:
                for queue in file.read().split():
                    owners.setdefault(queue, []).append(name)
    driver = f"{root}/sys/bus/ap/drivers/{_HOST_DRIVER}"
    for queue in os.listdir(driver):
        if queue in owners:
            owners[queue].append(HOST)
    return owners

# SPDX-License-Identifier: Apache-2.0
"""Which guest holds which queue on a node, as the simulated kernel and the ledger have it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.store import ledger_file

if TYPE_CHECKING:
    from cluster.lab_node import LabNode

_MATRIX = "sys/devices/vfio_ap/matrix"


def held_queues(node: LabNode) -> dict[str, set[str]]:
    """By guest its queues on ``node``.

    An assertion fails where kernel and ledger differ, or where a queue has two owners.
    """
    lab = node.lab
    system = lab.host()
    leases = {
        lease.mdev: lease.guest for lease in ledger_file.load(system.files, system.boot_id).leases.values()
    }
    found: dict[str, set[str]] = {}
    tree = Path(lab.path(f"{lab.work}/host"), _MATRIX)
    for device in tree.iterdir() if tree.exists() else ():
        if len(device.name) == 36:
            assert device.name in leases, f"{node.name}: nobody's device {device.name}"
            found[leases[device.name]] = set((device / "matrix").read_text().split())
    assert set(found) == set(leases.values()), (node.name, found, leases)
    queues = [queue for held in found.values() for queue in held]
    assert len(queues) == len(set(queues)), (node.name, found)
    return found

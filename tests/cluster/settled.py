# SPDX-License-Identifier: Apache-2.0
"""The three guests of the cluster of three nodes, and where they are when all has come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.held_queues import held_queues

if TYPE_CHECKING:
    from cluster.three_nodes import ThreeNodes

GUESTS = {"db1": "mode=ep11,domains=2", "db2": "mode=ep11", "web1": "mode=cca"}
_QUEUES = {"db1": 2, "db2": 1, "web1": 1}


def settled(cluster: ThreeNodes) -> dict[str, str]:
    """Where each guest runs when Pacemaker is idle; it holds its queues there, and nowhere else."""
    cluster.wait_idle()
    where = cluster.where()
    for node in cluster.up:
        held = held_queues(node)
        here = {guest for guest, name in where.items() if name == node.name}
        assert set(held) == here, (node.name, held, where)
        assert {guest: len(queues) for guest, queues in held.items()} == {
            guest: _QUEUES[guest] for guest in here
        }
    return where

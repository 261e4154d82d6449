# SPDX-License-Identifier: Apache-2.0
"""Three real nodes: what happens to the guests when something fails, and what crm_mon says then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cluster.three import GUESTS, one_cluster, settled, three

if TYPE_CHECKING:
    from cluster.three_nodes import ThreeNodes

__all__ = ["one_cluster", "three"]
pytestmark = pytest.mark.slow


def test_the_guests_of_a_node_that_dies_run_elsewhere(three: ThreeNodes) -> None:
    before = settled(three)
    victim = before["db1"]
    since = time.time()
    three.hmc.asked.clear()
    three.nodes[victim].crash()
    three.wait(lambda: three.where().get("db1") not in (None, victim), "db1 elsewhere")
    three.wait_for(GUESTS)
    after = settled(three)
    assert all(after[guest] == node for guest, node in before.items() if node != victim)
    assert f"POST /api/logical-partitions/{victim}/operations/deactivate" in three.hmc.asked
    assert 0 < three.watcher.without("db1", since) < 30

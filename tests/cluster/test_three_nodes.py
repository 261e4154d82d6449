# SPDX-License-Identifier: Apache-2.0
"""Three real nodes, one of which fails or is taken out of service: where its guests end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cluster.settled import GUESTS, settled

if TYPE_CHECKING:
    import random

    from cluster.three_nodes import ThreeNodes

pytestmark = pytest.mark.slow
_FENCED = 30.0
"""Seconds without a guest whose node had to be fenced, at most: a busy machine takes its time."""


def test_the_guests_of_a_node_that_dies_run_elsewhere(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    victim, since = before[guest], time.time()
    three.hmc.asked.clear()
    three.nodes[victim].crash()
    runs_elsewhere(three, guest, victim)
    after = settled(three)
    assert all(after[other] == node for other, node in before.items() if node != victim)
    assert f"POST /api/logical-partitions/{victim}/operations/deactivate" in three.hmc.asked
    assert 0 < three.watcher.without(guest, since) < _FENCED
    assert f"{victim}" in three.run("stonith_admin", "--history", victim)


def test_a_node_whose_link_is_cut_is_fenced_and_its_guests_run_elsewhere(
    three: ThreeNodes, rng: random.Random
) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    victim, since = before[guest], time.time()
    three.switch.cut(victim)
    runs_elsewhere(three, guest, victim)
    assert not three.nodes[victim].on
    settled(three)
    assert three.watcher.without(guest, since) < _FENCED


def test_nothing_starts_while_the_hmc_does_not_answer(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    victim = before[guest]
    three.hmc.answers = False
    three.nodes[victim].crash()
    three.wait(lambda: "UNCLEAN" in three.state(), "the loss")
    time.sleep(20)
    assert guest not in three.where()
    three.wait(lambda: "Failed Fencing Actions" in three.state(), "the failure")
    assert f"reboot of {victim} by" in three.state()
    three.hmc.answers = True
    runs_elsewhere(three, guest, victim)
    settled(three)


def test_a_node_in_standby_is_evacuated_live(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    victim = before[rng.choice([*GUESTS])]
    guests = [guest for guest, node in before.items() if node == victim]
    since = time.time()
    three.run("crm_standby", "--node", victim, "--update", "on")
    for guest in guests:
        runs_elsewhere(three, guest, victim)
    settled(three)
    assert all(three.watcher.was_always_there(guest, since) for guest in guests)
    assert f"Node {victim}: standby" in three.state()


def test_a_card_that_is_deconfigured_is_published_and_its_guests_leave_live(three: ThreeNodes) -> None:
    before = settled(three)
    victim = before["db1"]
    three.nodes[victim].sh("echo 0 >/sys/devices/ap/card0a/config")
    runs_elsewhere(three, "db1", victim)
    after = settled(three)
    assert after["db2"] != victim
    assert after["web1"] == before["web1"]
    assert three.attributes(victim)["apvfio-db1"] == "0"


def test_a_host_that_comes_back_without_its_queues_gets_no_guest(three: ThreeNodes) -> None:
    before = settled(three)
    victim = before["db1"]
    node = three.nodes[victim]
    adapters = node.adapters
    node.crash()
    runs_elsewhere(three, "db1", victim)
    node.adapters = {0: "accel", 1: "cca"}
    try:
        three.mend()
        three.wait(lambda: three.attributes(victim).get("apvfio-db1") == "0", "the attributes")
        assert three.attributes(victim)["apvfio-web1"] == "1"
        (other,) = {*three.nodes} - {victim, settled(three)["db1"]}
        three.run("crm_standby", "--node", other, "--update", "on")
        after = settled(three)
        assert set(after) == set(GUESTS)
        assert victim not in (after["db1"], after["db2"])
    finally:
        node.adapters = adapters
        node.cut_power()


def runs_elsewhere(three: ThreeNodes, guest: str, victim: str) -> None:
    """Wait until it does, and until all others run."""
    three.wait(lambda: three.where().get(guest) not in (None, victim), f"{guest} elsewhere")
    three.wait_for(GUESTS)

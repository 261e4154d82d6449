# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run, their peers do the work that they are said to do, and a miss is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from apvfio.model.ledger import Ledger
from apvfio.model.policy import Policy
from apvfio.plan.all_guests import plan_all_guests
from benchmarks import invented
from benchmarks.__main__ import GOALS, main
from benchmarks.goals import Goal, counted, measured, table
from benchmarks.measure import Pair
from benchmarks.saved import save
from domain_xml import domain

CHECKOUT = Path(__file__).parents[3]
PEERS = CHECKOUT / "benchmarks/peers"


@pytest.mark.parametrize(
    "hook", [["sh", PEERS / "minimal-hook.sh"], ["/usr/bin/python3", "-I", PEERS / "lxml-hook.py"]]
)
def test_the_hooks_beside_ours_see_whose_guest_it_is(hook: list[str]) -> None:
    plain = b"<domain><name>plain</name><metadata/></domain>"
    annotated = domain('<ap:matrix adapters="0" domains="1"/>')
    for xml, code in ((plain, 0), (annotated, 1)):
        done = subprocess.run([*hook, "g", "prepare", "begin", "-"], input=xml, check=False, timeout=60)
        assert done.returncode == code


@pytest.mark.parametrize("seed", range(3))
def test_highs_solves_the_same_problem(seed: int) -> None:
    highs = pytest.importorskip("benchmarks.peers.highs")
    requests, host = invented.apart(12, 5, 12, seed), invented.host(5, 12)
    found = plan_all_guests(requests, host, Ledger(invented.BOOT, {}), Policy()).joint_plan
    assert found
    assert highs.Model([request.matrix for request in requests], host).solve() == len(found.collateral) > 0


def test_invented_guests_want_nothing_of_each_others() -> None:
    requests = invented.apart(200, 9, 90)
    asked = [queue for request in requests for queue in request.matrix.queues()]
    assert len(asked) == len(set(asked)) >= 200
    host, ledger = invented.running(requests, invented.host(9, 90))
    assert len(host.mdevs) == len(ledger.leases) == 200
    assert not any(host.masks_give_host(queue) for queue in asked)


def test_the_verdicts() -> None:
    pair = Pair([2.0, 2.0, 6.0], [1.0, 1.0, 1.0])
    assert (pair.ratio, pair.medians) == (2.0, (2.0, 1.0))
    goals = [
        measured("a", "b", pair, 2),
        measured("a", "b", pair, 1.9),
        measured("a", "b", pair),
        counted("c", "d", 3, 4, bound=0.7),
        Goal("it cannot be measured here", "why", float("nan"), 0),
    ]
    assert [goal.met for goal in goals] == [True, False, True, False, False]
    lines = list(table(goals))[2:]
    assert ["met" in lines[0], "**missed**" in lines[1], "me" in lines[2].replace("medians", "")] == [
        True,
        True,
        False,
    ]


def test_what_is_wrong_with_the_arguments_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words, why in ((["9"], "there is no goal 9"), (["--rounds", "0", "3"], "--rounds must be 1 or more")):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        assert why in capsys.readouterr().err


@pytest.mark.slow
def test_what_can_be_counted_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "3"]) == 0
    assert capsys.readouterr().out.count("| met |") == 3


def test_the_times_are_kept_for_pyperf(tmp_path: Path) -> None:
    pytest.importorskip("pyperf")
    goals = [measured("a", "b", Pair([1.0, 2.0], [3.0, 4.0])), counted("c", "d", 3, 4, bound=1)]
    for path in [tmp_path / "times.json"] * 2:
        save(str(path), goals)
    kept = json.loads((tmp_path / "times.json").read_text())["benchmarks"]
    assert [one["runs"][0]["values"] for one in kept] == [[1.0, 2.0], [3.0, 4.0]]


def test_every_goal_has_its_module() -> None:
    assert sorted(GOALS) == [1, 2, 3, 4, 5, 6, 7, 8]
    for module in GOALS.values():
        assert (CHECKOUT / "benchmarks" / f"{module}.py").exists()

# SPDX-License-Identifier: Apache-2.0
"""``release --dry-run`` and ``reconcile --dry-run`` tell what the same command does, and change nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.engine.preview import preview_reconcile
from apvfio.engine.reconcile import reconcile_host
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS, OVERRIDES
from apvfio.model.ledger import ENDING
from apvfio.model.mask_grammar import parse_list
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.ledger_file import load as load_ledger
from apvfio.store.ledger_file import save as save_ledger
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

    from apvfio.model.step import Step


def told(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert host.run(*words, "--json") == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def contents(host: SimulatedHost) -> str:
    with open(host.path, encoding="utf-8") as file:
        return file.read()


def foretold(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What the command does, after it was told and nothing had changed by that."""
    before = contents(host)
    expected = told(host, capsys, *words, "--dry-run")
    assert contents(host) == before
    assert expected.pop("dry_run") is True
    assert told(host, capsys, *words) == {**expected, "dry_run": False}
    return expected


@pytest.mark.parametrize("kernel", PROFILES)
@pytest.mark.parametrize("foreign", [False, True])
def test_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str], kernel: str, foreign: bool) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(kernel))
    host.start(a_request("0,10", "1,2,4"))
    if foreign:
        host.make_mdev(mdev(5), a_matrix("10", "27"))
    did = foretold(host, capsys, "release", "g1")
    assert [step["op"] for step in did["steps"]] == ["remove", "return"]
    assert did["pending"] == {"apmask": "10" if foreign else "", "aqmask": "", "overrides": {}}


def test_a_release_of_overridden_queues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    assert host.run("mechanism", OVERRIDES) == Exit.OK
    host.start(a_request("0", "1-2"))
    assert foretold(host, capsys, "release", "g1")["pending"] == {"apmask": "", "aqmask": "", "overrides": {}}


def test_a_reconciliation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.start(a_request("0", "1-2"))
    assert foretold(host, capsys, "reconcile")["steps"] == []
    host.write(f"sys/{AP_MDEVS.remove(mdev(1))}", "1")
    did = foretold(host, capsys, "reconcile")
    assert did["seen"] == [f"guest g1: its mediated device {mdev(1)} is gone"]
    assert [step["op"] for step in did["steps"]] == ["return"]


@settings(max_examples=20, deadline=None)
@given(
    ids=st.tuples(
        st.sets(st.sampled_from([0, 1, 10]), min_size=1), st.sets(st.sampled_from([1, 2, 4]), min_size=1)
    ),
    widened=st.sets(st.sampled_from(["apmask +0", "apmask +10", "aqmask +1", "aqmask -27"])),
)
def test_whatever_was_broken_off(
    tmp_path_factory: pytest.TempPathFactory, ids: tuple[set[int], set[int]], widened: set[str]
) -> None:
    host = SimulatedHost(tmp_path_factory.mktemp("broken"))
    adapters, domains = (",".join(map(str, sorted(some))) for some in ids)
    host.start(a_request(adapters, domains))
    with host.opened() as system:
        ledger = load_ledger(system.files, system.boot_id)
        (lease,) = ledger.leases.values()
        save_ledger(system.files, ledger.with_lease(lease._replace(state=ENDING)))
        system.sysfs.write(AP_MDEVS.remove(mdev(1)), "1")
        for words in sorted(widened):
            name, change = words.split()
            system.sysfs.write(f"bus/ap/{name}", change)
    with host.opened() as system:
        expected, after = preview_reconcile(system)
        done = reconcile_host(system)
        assert after == read_host(system.sysfs)
    assert (bits(done.steps), done.seen) == (bits(expected.steps), expected.seen)
    assert (done.pending.pending, done.pending.overrides) == (
        expected.pending.pending,
        expected.pending.overrides,
    )


def bits(steps: list[Step]) -> set[tuple[str, str, int]]:
    """What is given back, one by one: many queues go home in several turns."""
    words = ((step, word.removeprefix("+")) for step in steps for word in step.value.split(","))
    return {(step.op, step.path, number) for step, word in words for number in parse_list(word)}


def test_what_cannot_be_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    assert host.run("reconcile", "--dry-run", "--defer") == Exit.USAGE
    assert "not allowed with" in capsys.readouterr().err
    assert host.run("release", "--dry-run", "g1") == Exit.REQUEST
    assert "no guest g1 holds queues" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""Mask bits that another program cleared: every command tells of them, and only of those."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.model.persistent_masks import RULE
from apvfio.sim.kernel import SimKernel
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

APMASK, AQMASK = "sys/bus/ap/apmask", "sys/bus/ap/aqmask"
CLEARED = "apmask 1 (01) is clear, and no guest, mediated device or stored mask needs that: another program"


class Witnesses:
    """What each command says of a host."""

    def __init__(self, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
        self.host = host
        self._capsys = capsys

    def said(self, *words: str) -> str:
        self._capsys.readouterr()
        self.host.run(*words)
        return self._capsys.readouterr().out

    def json(self, *words: str) -> Any:
        return json.loads(self.said(*words, "--json"))

    def drift(self) -> list[str]:
        """The differences, on which status, metrics and the dry run of reconcile agree."""
        found: list[str] = self.json("status")["drift"]
        assert self.json("reconcile", "-n")["seen"] == found
        assert f"\napvfio_drift {len(found)}\n" in self.said("metrics")
        return found

    def log(self) -> list[str]:
        """What the audit log has of masks."""
        return [event["message"] for event in self.json("log") if event["kind"] == "masks"]


@pytest.fixture
def witnesses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Witnesses:
    return Witnesses(SimulatedHost(tmp_path), capsys)


def test_bits_that_another_program_cleared(witnesses: Witnesses) -> None:
    witnesses.host.start(a_request("0", "1-2"))
    assert witnesses.drift() == []
    witnesses.host.write(APMASK, "-1")
    witnesses.host.write(AQMASK, "-4,-27")
    first, second = witnesses.drift()
    assert first.startswith(CLEARED)
    assert second.startswith("aqmask 4,27 (0004, 001b) is clear")
    assert {c["id"] for c in witnesses.json("doctor")["checks"] if c["state"] == "warning"} >= {"masks"}
    assert witnesses.log() == []
    for _ in range(2):  # it is told once
        assert witnesses.json("reconcile")["seen"] == [first, second]
        assert witnesses.log() == [
            "masks changed by hand: another program cleared apmask 1 (01) and aqmask 4,27 (0004, 001b)"
        ]
    assert witnesses.drift() == [first, second]  # it is still so


def test_the_sentence_says_how_to_set_them_and_how_to_keep_them(witnesses: Witnesses) -> None:
    witnesses.host.write(APMASK, "-1")
    (sentence,) = witnesses.drift()
    setting, keeping = (part.split() for part in sentence.split("'")[1::2])
    assert setting == ["apvfio", "masks", "--active", "apmask=+1"]
    witnesses.host.run(*keeping[1:])
    assert witnesses.drift() == []
    witnesses.host.run(*setting[1:])
    assert witnesses.drift() == []
    witnesses.host.write(APMASK, "-1")  # what was kept once is not meant for ever
    assert len(witnesses.drift()) == 1


@pytest.mark.parametrize("spec", ["apmask=-1", "apmask=0,2-255"])
def test_what_an_administrator_cleared_with_apvfio_is_meant(witnesses: Witnesses, spec: str) -> None:
    witnesses.host.run("masks", "--active", spec)
    assert witnesses.drift() == []
    assert witnesses.json("reconcile")["seen"] == []
    assert witnesses.drift() == []


def test_what_is_stored_is_meant(witnesses: Witnesses) -> None:
    witnesses.host.run("masks", "--persistent", "apmask=-1")
    assert "apmask" in (witnesses.host.read(RULE) or "")
    witnesses.host.write(APMASK, "-1")
    assert witnesses.drift() == []


def test_stored_masks_that_cannot_be_read_prove_nothing(witnesses: Witnesses) -> None:
    witnesses.host.write(RULE, 'ATTR{[ap]apmask}="0xno"\n')
    witnesses.host.write(APMASK, "-1")
    assert witnesses.drift() == []


def test_a_device_that_another_program_made_needs_them(witnesses: Witnesses) -> None:
    witnesses.host.write(APMASK, "-1,-10")
    witnesses.host.make_mdev(mdev(7), a_matrix("1", "1"))
    (sentence,) = witnesses.drift()
    assert sentence.startswith("apmask 10 (0a) is clear")


def test_ids_that_the_host_does_not_have_cost_it_nothing(witnesses: Witnesses) -> None:
    witnesses.host.write(APMASK, "-77")
    assert witnesses.drift() == []


def test_what_apvfio_cleared_and_will_return_is_not_strange(witnesses: Witnesses) -> None:
    witnesses.host.start(a_request("0", "1-2"))
    witnesses.host.start(a_request("10", "1", n=2))
    assert witnesses.drift() == []
    assert witnesses.json("reconcile")["steps"] == []
    assert witnesses.log() == []


def test_overrides_leave_the_masks_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = SimKernel.new()
    witnesses = Witnesses(SimulatedHost(tmp_path, kernel), capsys)
    assert witnesses.host.run("mechanism", "overrides") == 0
    witnesses.host.start(a_request("0", "1-2"))
    assert witnesses.drift() == []

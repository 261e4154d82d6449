# SPDX-License-Identifier: Apache-2.0
"""The destination of a migration, from the letter to libvirt's hook."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from apvfio.cli.main import main
from apvfio.domain.request import parse_device
from apvfio.domain.xml_editor import minimal_xml
from apvfio.libvirt import hook
from apvfio.migration import destination
from apvfio.model.errors import ApvfioError, ConflictError, Exit, RequestError
from apvfio.model.progress import no_progress
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from domain_xml import HOSTDEV, MDEV, UUID, domain
from hosts import IBM_DOMAINS, a_matrix
from memory_host import IBM_ADAPTERS, Machine

WITHOUT_DEVICE = domain(devices="")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_the_letter_tells_nothing_but_what_is_needed() -> None:
    secret = domain(devices=HOSTDEV + "<graphics type='vnc' passwd='secret'/>").replace(
        b"</metadata>", b"<x:y xmlns:x='urn:x'>private</x:y></metadata>"
    )
    told = minimal_xml(secret)
    assert parse_device(told) == parse_device(secret)
    assert b"secret" not in told
    assert b"private" not in told
    assert b"urn:apvfio:guest:1" in told
    assert minimal_xml(told) == told
    assert MDEV.lower() in minimal_xml(WITHOUT_DEVICE, MDEV.lower()).decode()


def test_a_guest_is_expected_and_arrives(machine: Machine) -> None:
    before = machine.host
    foreseen = destination.preview(machine, domain())
    assert machine.host == before
    assert set(foreseen.equipment) == set(foreseen.plan.request.matrix.queues())
    lease = destination.expect(machine, domain())
    assert (lease.mdev, machine.host.mdevs) == (MDEV.lower(), {MDEV.lower(): a_matrix("0,10", "1-2,4")})
    there = machine.snapshot()
    assert destination.expect(machine, domain()) == lease
    assert destination.expect(machine, minimal_xml(WITHOUT_DEVICE)) == lease
    assert machine.snapshot() == there
    assert hook.main(["db1", "prepare", "begin", "-"], machine, WITHOUT_DEVICE) == Exit.OK
    assert machine.ledger.leases[lease.mdev] == lease._replace(expected=False)
    # It is expected once: a start without its device is no migration.
    assert hook.main(["db1", "prepare", "begin", "-"], machine, WITHOUT_DEVICE) == Exit.REQUEST
    assert hook.main(["db1", "release", "end", "-"], machine, WITHOUT_DEVICE) == Exit.OK
    assert machine.host == before


def test_a_guest_that_is_not_expected_does_not_arrive(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    before = machine.host
    assert hook.main(["db1", "prepare", "begin", "-"], machine, WITHOUT_DEVICE) == Exit.REQUEST
    assert "has no mediated device" in capfd.readouterr().err
    destination.expect(machine, domain(uuid="11111111-2222-4333-8444-555555555555"))
    assert hook.main(["db1", "prepare", "begin", "-"], machine, WITHOUT_DEVICE) == Exit.REQUEST
    with pytest.raises(RequestError, match="no mediated device"):
        destination.expect(machine, WITHOUT_DEVICE)
    destination.give_up(machine, domain(uuid="11111111-2222-4333-8444-555555555555"), no_progress)
    assert machine.host == before


def test_what_is_expected_is_given_up(machine: Machine) -> None:
    before = machine.host
    destination.expect(machine, domain())
    for _ in range(2):
        destination.give_up(machine, domain(), no_progress)
        assert machine.host == before


def test_a_guest_that_runs_here_loses_nothing(machine: Machine) -> None:
    destination.expect(machine, domain())
    machine.running = {UUID}
    before = machine.snapshot()
    with pytest.raises(ConflictError, match="it runs here"):
        destination.give_up(machine, domain(), no_progress)
    with pytest.raises(ConflictError, match="holds adapters 0,10, domains 1-2,4 through mediated device"):
        destination.expect(machine, domain('<ap:matrix adapters="1" domains="1"/>'))
    assert machine.snapshot() == before


def test_other_queues_than_before(machine: Machine) -> None:
    """The guest's wish has changed since it was expected, and it has not come."""
    destination.expect(machine, domain())
    destination.expect(machine, domain('<ap:matrix adapters="1" domains="1"/>'))
    assert machine.host.mdevs == {MDEV.lower(): a_matrix("1", "1")}


def test_a_guest_that_asks_for_nothing(machine: Machine) -> None:
    plain = f"<domain><name>a</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()
    for call in (destination.preview, destination.expect):
        with pytest.raises(RequestError, match="no annotation"):
            call(machine, plain)


def test_every_write_of_expect_can_fail(machine: Machine) -> None:
    """All goes back, as at a start."""
    probe = machine.twin()
    probe.faults.arm(0, lambda: None)
    destination.expect(probe, domain())
    assert probe.faults.count > 3

    def fail() -> None:
        raise OSError(5, "Input/output error")

    for at in range(1, probe.faults.count + 1):
        tried = machine.twin()
        before = tried.host
        tried.faults.arm(at, fail)
        with pytest.raises((OSError, ApvfioError)):
            destination.expect(tried, domain())
        after = tried.process()
        destination.give_up(after, domain(), no_progress)
        assert after.host == before
        assert after.ledger.leases == {}


class TestCommand:
    """``apvfio incoming``."""

    @pytest.fixture
    def sim(self, tmp_path: Path) -> str:
        file = str(tmp_path / "host.json")
        create_sim(file, SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
        return file

    def run(self, monkeypatch: pytest.MonkeyPatch, sim: str, *words: str, xml: bytes = domain()) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml)))
        return main(["--sim", sim, "incoming", *words])

    def test_for_machines(
        self, sim: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(monkeypatch, sim, "--dry-run", "--json") == Exit.OK
        assert set(json.loads(capsys.readouterr().out)) == {
            *("plan", "equipment", "migratable", "control_domains"),
        }
        assert self.run(monkeypatch, sim, "--json") == Exit.OK
        assert json.loads(capsys.readouterr().out)["mdev"] == MDEV.lower()
        assert self.run(monkeypatch, sim, "--give-up", "--json") == Exit.OK
        assert json.loads(capsys.readouterr().out)["steps"]

    def test_for_people(
        self, sim: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for words, says in (
            (["--dry-run"], "alternative  domains: "),
            ([], f"adapters 0,10, domains 1-2,4 through mediated device {MDEV.lower()} wait for guest db1"),
            (["--give-up"], "remove"),
            (["--give-up"], "nothing to do"),
        ):
            assert self.run(monkeypatch, sim, *words) == Exit.OK
            assert says in capsys.readouterr().out

    @pytest.mark.parametrize(
        "xml", [b"", b"<domain/>", b"<domain", b"\xff" * 100, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"]
    )
    @pytest.mark.parametrize("option", [[], ["--dry-run"], ["--give-up"]])
    def test_what_is_no_guest(
        self,
        sim: str,
        option: list[str],
        xml: bytes,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        before = Path(sim).read_bytes()
        assert self.run(monkeypatch, sim, "--json", *option, xml=xml) == Exit.REQUEST
        assert json.loads(capsys.readouterr().out)["error"]["kind"] == "request"
        assert Path(sim).read_bytes() == before

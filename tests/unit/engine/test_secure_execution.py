# SPDX-License-Identifier: Apache-2.0
"""Secure Execution guests on the simulated kernel: one rule for all that gives a guest queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.domain.request import parse_device, parse_domain
from apvfio.domain.xml_editor import minimal_xml
from apvfio.engine.live_change import plan_change
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.libvirt import hook
from apvfio.migration import source
from apvfio.migration.hosts import OtherHost
from apvfio.migration.source import Traveller
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError, Exit, HostError, RequestError
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.model.process import UNKNOWN
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from doctor_env import TEST_DRIVER, patient
from domain_xml import MDEV, UUID, domain
from hosts import a_matrix, guest, mdev
from lab.guest import guest_xml
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECURE = b"<launchSecurity type='s390-pv'/></domain>"
CARDS = {0: "accel", 1: "cca", 2: "ep11", 3: "ep11"}
REMEDY = "Request adapters in mode ep11 (CEX8S or later) or accel."


def secure(xml: bytes) -> bytes:
    return xml.replace(b"</domain>", SECURE)


def ids(adapters: str, domains: str = "1") -> bytes:
    return secure(domain(f'<ap:matrix adapters="{adapters}" domains="{domains}"/>'))


def criteria(text: str) -> bytes:
    return secure(domain(f"<ap:any {text}/>"))


def request(xml: bytes) -> Request:
    found = parse_domain(xml)
    assert found
    return found


@pytest.fixture
def machine() -> Machine:
    made = Machine(SimKernel.new("7.2", adapters=CARDS, domains=IdSet([1, 2])))
    made.kernel.state.cards[3].hwtype = 13
    return made


@pytest.mark.parametrize(
    ("element", "found"),
    [
        (b"<launchSecurity type='s390-pv'/>", True),
        (b"<launchSecurity type='s390-pv'><cbitpos>1</cbitpos></launchSecurity>", True),
        (b"<launchSecurity type='sev'/>", False),
        (b"<launchSecurity/>", False),
        (b"<devices><launchSecurity type='s390-pv'/></devices>", False),
        (b"<metadata><launchSecurity xmlns='urn:x' type='s390-pv'/></metadata>", False),
        (b"", False),
    ],
)
def test_what_makes_a_guest_one(element: bytes, found: bool) -> None:
    xml = domain().replace(b"</domain>", element + b"</domain>")
    assert request(xml).secure is found
    bare = parse_device(xml)
    assert bare
    assert bare.secure is found
    assert request(minimal_xml(xml)).secure is found


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        (ids("1"), "adapter 01, which is in CCA mode"),
        (ids("0,1"), "adapter 01, which is in CCA mode"),
        (ids("3"), "adapter 03, which is in EP11 mode and a CEX7"),
        (criteria('mode="cca"'), "queues in CCA mode"),
    ],
)
def test_what_it_cannot_use_is_refused_by_each_way_to_queues(
    machine: Machine, xml: bytes, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = machine.snapshot()
    asked = request(xml)
    sentence = f"guest db1: it is a Secure Execution guest and cannot use {what}. {REMEDY}"
    ways: list[Callable[[], object]] = [
        lambda: preview_plan(machine, asked),
        lambda: start_guest(machine, asked),
    ]
    for way in ways:
        with pytest.raises(RequestError) as error:
            way()
        assert str(error.value) == sentence
    assert hook.main(["db1", "prepare", "begin", "-"], machine, xml) == Exit.REQUEST
    assert sentence in capfd.readouterr().err
    assert {**machine.files.texts, "var/lib/apvfio/audit.jsonl": ""} == {"var/lib/apvfio/audit.jsonl": ""}
    assert machine.snapshot() == before
    # Any other guest may have them.
    start_guest(machine, asked._replace(secure=False))


def test_what_it_can_use_is_given(machine: Machine) -> None:
    assert start_guest(machine, request(ids("0,2", "1-2"))).matrix == a_matrix("0,2", "1-2")


def test_a_running_guest_is_given_nothing_else(machine: Machine) -> None:
    start_guest(machine, request(ids("2")))
    with pytest.raises(RequestError, match="cannot use adapter 01, which is in CCA mode"):
        plan_change(machine, request(ids("1-2")), UNKNOWN)
    assert plan_change(machine, request(ids("2", "1-2")), UNKNOWN).gained


def test_criteria_leave_out_older_cards_and_spread_over_two(machine: Machine) -> None:
    asked = request(criteria('mode="ep11"'))
    assert asked.criteria == Criteria("ep11", adapters=2)
    with pytest.raises(
        HostError,
        match=r"Secure Execution leaves 02: 03 is in EP11 mode and a CEX7.*no rectangle|no rectangle",
    ) as error:
        start_guest(machine, asked)
    assert "Secure Execution leaves 02: 03 is in EP11 mode and a CEX7" in str(error.value)
    machine.kernel.state.cards[3].hwtype = 14
    assert start_guest(machine, asked).matrix == a_matrix("2-3", "1")


@pytest.mark.parametrize(
    ("text", "adapters"),
    [
        ('mode="ep11"', 2),
        ('mode="ep11" domains="2"', 2),
        ('mode="ep11" adapters="1"', 1),
        ('mode="ep11" adapters="3"', 3),
        ('mode="accel"', 1),
    ],
)
def test_the_number_of_adapters_unless_it_is_named(text: str, adapters: int) -> None:
    found = request(criteria(text)).criteria
    assert found
    assert found.adapters == adapters
    plain = request(domain(f"<ap:any {text}/>")).criteria
    assert plain
    assert plain.adapters == (adapters if "adapters" in text else 1)


def test_it_is_not_migrated_nor_is_the_destination_asked(machine: Machine) -> None:
    absent = OtherHost(["/nowhere/apvfio"])
    plain = domain('<ap:matrix adapters="2" domains="1"/>')
    for xml, says in ((ids("2"), "QEMU cannot migrate one"), (plain, "does not answer")):
        start_guest(machine, request(xml))
        traveller = Traveller("db1", UUID, minimal_xml(xml, MDEV.lower()), a_matrix("2", "1"))
        with pytest.raises(ApvfioError, match=says):
            source.preview(machine, traveller, absent, other_keys=False)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On IBM's example host: adapter 0 is an accelerator, 1 is CCA, 10 is EP11."""
    with patient(tmp_path, capsys) as host:
        for name, n, matrix in (("se1", 1, a_matrix("1", "1")), ("se2", 2, a_matrix("10", "1"))):
            xml = guest_xml(name, matrix, mdev(n)).replace("</domain>", SECURE.decode())
            host.define_xml(xml)
        for words in (
            ["plan", "se1"],
            ["define", "se1"],
            ["guest", "set", "se2", "--adapters", "1", "--domains", "1"],
            ["guest", "set", "se2", "--any", "mode=cca"],
        ):
            assert host.run(*words, "--connect", TEST_DRIVER) == Exit.REQUEST, words
            assert "it is a Secure Execution guest and cannot use" in capsys.readouterr().err
        assert host.run("define", "se2", "--connect", TEST_DRIVER) == Exit.OK
        capsys.readouterr()
        assert host.run("plan", "--all", "--json", "--connect", TEST_DRIVER) == Exit.OK
        document = json.loads(capsys.readouterr().out)
        assert [one["guest"] for one in document["guests"]] == ["se2"]
        assert [(one["guest"], one["kind"]) for one in document["errors"]] == [("se1", "request")]
        assert (
            host.run("guest", "set", "se2", "--any", "mode=ep11", "--unchecked", "-c", TEST_DRIVER) == Exit.OK
        )
        assert "adapters='2'" in host.domain("se2").XMLDesc().replace('"', "'")


def test_only_its_own_start_asks_the_cards(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest without launchSecurity pays nothing for the rule."""
    monkeypatch.setattr("apvfio.kernel.cards.read_adapters", lambda _: pytest.fail("the cards were asked"))
    plain = Request("g1", guest(1), mdev(1), Matrix(IdSet([1]), IdSet([1])))
    assert start_guest(machine, plain)

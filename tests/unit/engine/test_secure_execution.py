# SPDX-License-Identifier: Apache-2.0
"""Secure Execution guests on the simulated kernel: one rule for all that gives a guest queues."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from apvfio.domain.request import parse_device, parse_domain
from apvfio.domain.xml_editor import minimal_xml
from apvfio.engine.live_change import plan_change
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events.audit_log import AUDIT_LOG
from apvfio.libvirt import hook
from apvfio.migration import source
from apvfio.migration.budget import Budget
from apvfio.migration.hosts import OtherHost
from apvfio.migration.source import Traveller
from apvfio.model.errors import ApvfioError, Exit, HostError, RequestError
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.process import UNKNOWN
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from criteria import a_criteria
from doctor_env import TEST_DRIVER, patient
from domain_xml import MDEV, UUID, domain
from hosts import a_matrix, a_request, guest, mdev
from lab.guest import guest_xml
from memory_host import Machine
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECURE = b"<launchSecurity type='s390-pv'/></domain>"
CARDS = {0: "accel", 1: "cca", 2: "ep11", 3: "ep11"}
KINDS = '<ap:any><ap:cards mode="accel" adapters="1"/><ap:cards mode="{}" adapters="{}"/></ap:any>'
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
        (secure(domain(KINDS.format("cca", 1))), "queues in CCA mode"),
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
    assert asked.criteria == a_criteria("ep11", adapters=2)
    with pytest.raises(
        HostError,
        match=r"no rectangle",
    ) as error:
        start_guest(machine, asked)
    assert "adapters for Secure Execution: 02 (03 is in EP11 mode and a CEX7" in str(error.value)
    machine.kernel.state.cards[3].hwtype = 14
    assert start_guest(machine, asked).matrix == a_matrix("2-3", "1")


def test_kinds_leave_out_older_cards_and_name_their_numbers(machine: Machine) -> None:
    assert start_guest(machine, request(secure(domain(KINDS.format("ep11", 1))))).matrix == a_matrix(
        "0,2", "1"
    )
    with pytest.raises(HostError, match=r"for 2 ep11 adapters: .* adapters for Secure Execution: 02 \(03 is"):
        preview_plan(machine, request(secure(domain(KINDS.format("ep11", 2)))))


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
    absent = OtherHost(["/nowhere/apvfio"], Budget(None))
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


KEY, OTHER = "ab" * 32, "cd" * 32


def has_key(machine: Machine, adapter: int, domain_id: int, key: str) -> None:
    machine.kernel.state.queues[Apqn(adapter, domain_id)].mkvps = f"WK CUR: valid 0x{key}\nWK NEW: empty -"


def test_two_domains_of_one_adapter_with_one_key_are_warned_of(machine: Machine) -> None:
    said = (
        f"02.0001, 02.0002 are domains of one adapter with the same master key 0x{KEY[:32]}, which a Secure "
        "Execution guest must not be given: request one domain on several adapters"
    )
    has_key(machine, 2, 1, KEY)
    has_key(machine, 2, 2, OTHER)
    both = request(ids("2", "1-2"))
    assert said not in preview_plan(machine, both).warnings
    has_key(machine, 2, 2, KEY)
    assert said in preview_plan(machine, both).warnings
    assert said not in preview_plan(machine, both._replace(secure=False)).warnings
    assert said in preview_plan(machine, request(criteria('mode="ep11" adapters="1" domains="2"'))).warnings
    # The start writes the warning to the audit log, and names a remembered key as remembered.
    start_guest(machine, request(ids("2")))
    found = plan_change(machine, both, UNKNOWN)
    assert any(
        re.search(rf"same master key 0x{KEY[:32]} \(remembered since 20.*Z\), which", text)
        for text in found.plan.warnings
    )
    release_guest(machine, UUID, force=True)
    start_guest(machine, both)
    assert "are domains of one adapter with the same master key" in machine.files.texts[AUDIT_LOG]


def test_one_key_on_two_adapters_is_redundancy(machine: Machine) -> None:
    machine.kernel.state.cards[3].hwtype = 14
    for adapter in (2, 3):
        has_key(machine, adapter, 1, KEY)
    assert not [text for text in preview_plan(machine, request(ids("2-3"))).warnings if "must not" in text]


def test_a_live_change_tells_what_is_to_be_bound(machine: Machine) -> None:
    start_guest(machine, request(ids("2")))
    warnings = plan_change(machine, request(ids("0", "1")), UNKNOWN).plan.warnings
    assert warnings[-2:] == (
        "the Secure Execution guest loses bind and associate of 02.0001, and must repeat both when it "
        "has queues again",
        "the Secure Execution guest must bind 00.0001, and associate those in mode ep11, before it can use "
        "them",
    )
    assert machine.ledger.leases[MDEV.lower()].secure
    plain = request(domain('<ap:matrix adapters="0" domains="1"/>'))
    assert not [w for w in plan_change(machine, plain, UNKNOWN).plan.warnings if "Secure" in w]


def test_a_release_tells_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.start(request(ids("10")))
    host.start(a_request("0", "1", 2))
    assert host.run("status") == Exit.OK
    assert "guest db1 (Secure Execution): adapters 10, domains 1" in capsys.readouterr().out
    assert host.run("status", "--json") == Exit.OK
    leases = json.loads(capsys.readouterr().out)["leases"]
    assert {lease["guest"]: lease["secure_execution"] for lease in leases} == {"db1": True, "g2": False}
    for words, said in (
        (["release", "db1", "--dry-run"], True),
        (["release", "db1"], True),
        (["release", "g2"], False),
    ):
        assert host.run(*words) == Exit.OK
        warned = "warning: guest db1: the Secure Execution guest loses" in capsys.readouterr().err
        assert warned is said


def test_clear_and_set_tell_what_a_running_guest_loses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = "the Secure Execution guest loses bind and associate of 0a.0001, 0a.0002"
    with patient(tmp_path, capsys) as host:
        xml = guest_xml("se1", a_matrix("10", "1-2"), mdev(1)).replace("</domain>", SECURE.decode())
        host.define_xml(xml)
        host.domain("se1").create()
        host.start(request(xml.encode()))
        words = ["guest", "clear", "se1", "--dry-run", "--connect", TEST_DRIVER]
        for more, said in (["--live"], True), ([], False), (["--live", "--keep-hostdev"], False):
            capsys.readouterr()
            assert host.run(*words, *more) == Exit.OK
            assert (lost in capsys.readouterr().err) is said, more
        words = ["guest", "set", "se1", "--adapters", "0", "--domains", "1-2", "--live", "--dry-run"]
        assert host.run(*words, "--connect", TEST_DRIVER) == Exit.OK
        out = capsys.readouterr().out
        assert lost in out
        assert "must bind 00.0001, 00.0002" in out
        # One that was unplugged, or never had any, gets a device: all its queues are to be bound.
        host.define_xml(guest_xml("se2").replace("</domain>", SECURE.decode()))
        host.domain("se2").create()
        words = ["guest", "set", "se2", "--adapters", "0", "--domains", "4", "--live", "--dry-run"]
        assert host.run(*words, "--connect", TEST_DRIVER) == Exit.OK
        assert "must bind 00.0004, and associate" in capsys.readouterr().out


def test_the_guest_is_shown_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = SimKernel.new()
    for domain_id in (1, 2):
        kernel.state.queues[Apqn(10, domain_id)].mkvps = f"WK CUR: valid 0x{KEY}\nWK NEW: empty -"
    with patient(tmp_path, capsys, kernel) as host:
        host.define_xml(
            guest_xml("se1", a_matrix("10", "1-2"), mdev(1)).replace("</domain>", SECURE.decode())
        )
        for words, text in (
            (["guest", "show", "se1"], "launch security s390-pv\n"),
            (["guest", "list"], "(Secure Execution)"),
            (["plan", "se1"], "guest        se1 (Secure Execution)"),
        ):
            capsys.readouterr()
            assert host.run(*words, "--connect", TEST_DRIVER) == Exit.OK
            assert text in capsys.readouterr().out
        code, checks = host.examined("se1")
        assert code == 0
        found = [(one["state"], one["message"]) for one in checks if one["id"] == "secure-execution"]
        assert found[0] == (
            "warning",
            f"0a.0001, 0a.0002 are domains of one adapter with the same master key 0x{KEY[:32]}, which a "
            "Secure Execution guest must not be given: request one domain on several adapters.",
        )
        assert found[1][0] == "ok"
        capsys.readouterr()
        assert host.run("plan", "--all", "--json", "--connect", TEST_DRIVER) == Exit.OK
        (said,) = json.loads(capsys.readouterr().out)["warnings"]
        assert said.startswith("guest se1: 0a.0001, 0a.0002 are domains of one adapter")
        start = next(one for one in checks if one["id"] == "start")
        assert "master key" not in start["message"] or "have master keys" in start["message"]


def test_only_its_own_start_asks_the_cards(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest without launchSecurity pays nothing for the rule."""
    monkeypatch.setattr("apvfio.kernel.cards.read_adapters", lambda _: pytest.fail("the cards were asked"))
    plain = Request("g1", guest(1), mdev(1), Matrix(IdSet([1]), IdSet([1])))
    assert start_guest(machine, plain)

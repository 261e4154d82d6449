# SPDX-License-Identifier: Apache-2.0
"""A device as a definition of mdevctl: written, removed, requested by a guest without annotation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.domain.xml_editor import own_mdev
from apvfio.libvirt import hook
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.definitions import autostarted, load_definition, matrix_of
from domain_xml import HOSTDEV, MDEV, UUID, domain
from hosts import IBM_DOMAINS, a_matrix, guest
from libvirt_test_driver import URI, driver
from memory_host import IBM_ADAPTERS, Machine

if TYPE_CHECKING:
    from pathlib import Path

FILE = AP_MDEVS.definition(MDEV.lower())
BARE = f"<domain><name>bare</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()
DEFINITION = """{"mdev_type": "vfio_ap-passthrough", "start": "manual",
 "attrs": [{"assign_adapter": "0x0"}, {"assign_domain": "1,2"}, {"assign_control_domain": "4"}]}"""


@pytest.fixture
def sim(tmp_path: Path) -> str:
    name = str(tmp_path / "host.json")
    create_sim(name, SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    return name


@pytest.fixture
def xml(tmp_path: Path) -> str:
    name = tmp_path / "db1.xml"
    name.write_bytes(domain())
    return str(name)


def call(machine: Machine, operation: str, document: bytes) -> int:
    return hook.main(["bare", operation, "begin", "-"], machine, document)


def test_a_device_is_defined_once_and_undefined(
    sim: str, xml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (
        f"defined mediated device {MDEV.lower()} of guest db1: adapters 0,10, domains 1-2,4",
        "already defined: mediated",
    ):
        assert main(["--sim", sim, "define", "--xml", xml]) == Exit.OK
        assert said in capsys.readouterr().out
    with open_sim(sim) as system:
        definition = load_definition(system.files, MDEV.lower())
        assert definition is not None
        assert definition.start == "manual"
        assert definition.attrs[:2] == (("assign_adapter", "0x0"), ("assign_adapter", "0xa"))
        assert matrix_of(definition) == a_matrix("0,10", "1-2,4")
        assert autostarted(system.files) == {}
    for said in (f"undefined mediated device {MDEV.lower()} of guest db1", "not defined: mediated device"):
        assert main(["--sim", sim, "undefine", "--xml", xml]) == Exit.OK
        assert said in capsys.readouterr().out


def test_a_dry_run_defines_and_removes_nothing(
    sim: str, xml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    device = f"mediated device {MDEV.lower()} of guest db1"
    assert main(["--sim", sim, "define", "--dry-run", "--xml", xml]) == Exit.OK
    assert capsys.readouterr().out == f"would define {device}: adapters 0,10, domains 1-2,4\n"
    with open_sim(sim) as system:
        assert load_definition(system.files, MDEV.lower()) is None
        system.files.write(FILE, DEFINITION)
    assert main(["--sim", sim, "define", "-n", "--xml", xml]) == Exit.CONFLICT
    assert main(["--sim", sim, "define", "-n", "--replace", "--xml", xml]) == Exit.OK
    assert main(["--sim", sim, "undefine", "-n", "--xml", xml]) == Exit.OK
    assert capsys.readouterr().out.splitlines()[1] == f"would undefine {device}"
    with open_sim(sim) as system:
        assert system.files.read(FILE) == DEFINITION


@pytest.mark.parametrize(
    ("document", "words", "code", "says"),
    [
        (BARE, ["define"], Exit.REQUEST, "has no annotation"),
        (BARE.replace(b"vfio-ap", b"vfio-ccw"), ["undefine"], Exit.REQUEST, "has no vfio-ap device"),
        (domain(), ["define", "x"], Exit.USAGE, "define takes either"),
    ],
)
def test_what_cannot_be_defined(
    sim: str,
    tmp_path: Path,
    document: bytes,
    words: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "x.xml"
    file.write_bytes(document)
    assert main(["--sim", sim, *words, "--xml", str(file)]) == code
    assert says in capsys.readouterr().err


def test_a_definition_that_says_otherwise_is_not_replaced(
    sim: str, xml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_sim(sim) as system:
        system.files.write(FILE, DEFINITION)
    assert main(["--sim", sim, "define", "--xml", xml]) == Exit.CONFLICT
    says = "is defined with adapters 0, domains 1-2, control domains 4; it requests adapters 0,10"
    assert says in capsys.readouterr().err


def test_with_replace_it_is_and_what_is_not_ours_stays(
    sim: str, xml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_sim(sim) as system:
        kept = json.loads(DEFINITION) | {"start": "auto", "note": ["ours"]}
        system.files.write(FILE, json.dumps(kept))
    assert main(["--sim", sim, "define", "--replace", "--xml", xml]) == Exit.OK
    assert "defined mediated device" in capsys.readouterr().out
    with open_sim(sim) as system:
        definition = load_definition(system.files, MDEV.lower())
    assert definition
    assert matrix_of(definition) == a_matrix("0,10", "1-2,4")
    assert (definition.start, definition.more) == ("auto", {"note": ["ours"]})


def test_what_is_not_understood_is_not_replaced(
    sim: str, xml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = DEFINITION.replace("assign_domain", "assign_thing")
    with open_sim(sim) as system:
        system.files.write(FILE, strange)
    assert main(["--sim", sim, "define", "--replace", "--xml", xml]) == Exit.REQUEST
    assert "'assign_thing', whose effect is not known" in capsys.readouterr().err
    with open_sim(sim) as system:
        assert system.files.read(FILE) == strange


def test_a_guest_without_annotation_starts_by_its_definition() -> None:
    machine = Machine()
    before = machine.host
    assert call(machine, "prepare", BARE) == Exit.OK
    assert machine.host == before
    machine.files.texts[FILE] = DEFINITION
    assert call(machine, "prepare", BARE) == Exit.OK
    assert machine.host.mdevs == {
        MDEV.lower(): a_matrix("0", "1-2")._replace(control_domains=a_matrix("4", "4")[0])
    }
    assert call(machine, "reconnect", BARE) == Exit.OK
    assert call(machine, "release", BARE) == Exit.OK
    assert machine.host == before


@pytest.mark.parametrize(
    ("text", "document", "says"),
    [
        (
            DEFINITION,
            domain(),
            "guest db1: its annotation requests adapters 0,10, domains 1-2,4,",
        ),
        (
            "{",
            BARE,
            f"guest bare: /{FILE} cannot be used: it is not JSON",
        ),
        (
            DEFINITION.replace("1,2", "2-1"),
            BARE,
            "guest bare: the definition's assign_domain is '2-1': the range '2-1' runs backwards",
        ),
        (
            DEFINITION.replace("assign_domain", "assign_thing"),
            BARE,
            "'assign_thing', whose effect is not known",
        ),
    ],
)
def test_a_definition_that_makes_no_sense_stops_the_start(
    text: str, document: bytes, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = Machine()
    machine.files.texts[FILE] = text
    before = machine.snapshot()
    assert call(machine, "prepare", document) == Exit.REQUEST
    assert says in capfd.readouterr().err
    assert machine.snapshot() == before


def test_a_definition_of_another_kind_or_without_queues_is_none_of_our_business() -> None:
    for text in (DEFINITION.replace("vfio_ap-", "vfio_ccw-"), '{"mdev_type": "vfio_ap-passthrough"}'):
        machine = Machine()
        machine.files.texts[FILE] = text
        assert call(machine, "prepare", BARE) == Exit.OK
        assert machine.sysfs.written == []


def test_an_annotation_and_a_definition_that_agree() -> None:
    machine = Machine()
    machine.files.texts[FILE] = DEFINITION
    requested = '<ap:matrix adapters="0" domains="1-2" control-domains="4"/>'
    assert call(machine, "prepare", domain(requested)) == Exit.OK
    assert list(machine.host.mdevs) == [MDEV.lower()]


def test_a_clone_does_not_touch_the_definition_of_its_original(
    sim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with driver() as libvirtd:
        libvirtd.define("db1", 1, a_matrix("0", "1"), own_mdev(guest(1)))
        libvirtd.define("clone", 2, a_matrix("0", "1"), own_mdev(guest(1)))
        assert main(["--sim", sim, "define", "db1", "-c", URI]) == Exit.OK
        for verb in ("define", "undefine"):
            assert main(["--sim", sim, verb, "clone", "-c", URI]) == Exit.CONFLICT
            said = capsys.readouterr().err
            assert f"guest clone: its mediated device {own_mdev(guest(1))} is that of guest db1. " in said
            assert "'apvfio guest set clone --new-device'" in said
        assert main(["--sim", sim, "undefine", "db1", "-c", URI]) == Exit.OK
        assert "undefined mediated device" in capsys.readouterr().out

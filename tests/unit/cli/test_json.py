# SPDX-License-Identifier: Apache-2.0
"""docs/json.md has the schema of all that ``--json`` prints: the output of every command is compared."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.cli.main import main
from apvfio.engine.drain import begin_drain
from apvfio.model.errors import Exit
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Area, Matrix
from command_line import PARSERS, options
from criteria import a_criteria
from domain_xml import MDEV, domain
from hosts import a_lease, a_matrix, a_request, guest, mdev
from json_schema import PLAIN, documents, faults, require, schema
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[2]
WITH_JSON = {name for name in PARSERS if "--json" in options(name)}
WITH_LIBVIRT = {
    "migrate": "libvirt/test_migrate.py",
    "cluster publish": "cluster/test_publishing.py",
    "cluster outlook": "unit/cluster/test_outlook.py",
    "cluster priorities": "unit/cluster/test_outlook.py",
}
"""Commands that need real daemons or programs, and the test that compares their output."""
CONNECT = ("-c", URI)
DB1 = "00000001-1111-4111-8111-111111111111"
"""The uuid that the driver gives to the first guest."""
OWN_DEVICE = mdev(9)

CASES: list[tuple[str, tuple[str, ...], str]] = [
    ("status", (), "status"),
    ("status", ("--adapter", "0-1,10", *CONNECT), "users"),
    ("status", ("--domain", "4", "-c", "test:///missing"), "users"),
    ("status", ("db1", *CONNECT), "guest_status"),
    ("status", ("any", *CONNECT), "guest_status"),
    ("status", ("g1", "-c", "test:///missing"), "guest_status"),
    ("doctor", (), "doctor"),
    ("doctor", ("--xml", "FILE"), "doctor"),
    ("log", (), "events"),
    ("log", ("--queue", "00.0001"), "spans"),
    ("queues", (), "devices"),
    ("keys list", (), "keys"),
    ("policy show", (), "policy"),
    ("keys forget", ("--all",), "keys_forgotten"),
    ("plan", ("--xml", "FILE"), "plan"),
    ("plan", ("--all", "--xml", "FILE"), "all_guests"),
    ("guest list", CONNECT, "guests"),
    ("guest show", ("db1", *CONNECT), "request"),
    ("guest show", ("any", *CONNECT), "request"),
    ("guest set", ("db1", "--dry-run", "--adapters", "1", "--domains", "1", *CONNECT), "guest_set"),
    ("guest set", ("db1", "--unchecked", "--adapters", "1", "--domains", "2", *CONNECT), "guest_set"),
    ("guest clear", ("db1", *CONNECT), "guest_clear"),
    ("cluster offer", ("--guests", "DIR"), "offer"),
    ("cluster guest", ("FILE",), "resource"),
    ("masks", (), "masks"),
    ("masks", ("-a",), "masks"),
    ("masks", ("--dry-run", "apmask=-1"), "masks_change"),
    ("masks", ("-p", "apmask=-1"), "masks_change"),
    ("mechanism", (), "mechanism"),
    ("drain", ("--adapter", "0", "-n", *CONNECT), "drain"),
    ("drain", ("--restore", "--yes", *CONNECT), "restore"),
    ("incoming", ("-n",), "incoming"),
    ("incoming", (), "lease"),
    ("incoming", ("--give-up",), "outcome"),
    ("reconcile", ("-n",), "outcome"),
    ("reconcile", (), "outcome"),
    ("release", ("g1", "-n"), "outcome"),
    ("release", ("g1",), "outcome"),
]
"""A command, its words, and what it prints on a host where guest g1 runs."""


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        made.define("db1", 1, a_matrix("0", "1"), mdev(1))
        made.define("any", 2, a_criteria("ep11"), mdev(2))
        made.define("bare", 3, a_matrix("1", "1"))
        yield made


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """Two guests run, beside a device that apvfio has not made, and a domain that is not there is drained."""
    made = SimulatedHost(tmp_path)
    made.start(a_request("0", "1-2"))
    made.start(a_request("1", "4", 2))
    made.make_mdev(OWN_DEVICE, a_matrix("10", "4"))
    with made.opened() as system:
        begin_drain(system, Area(domains=IdSet([84])))
    return made


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """The document printed."""
    return json.loads(capsys.readouterr().out)


def test_the_page_has_every_command() -> None:
    assert set(documents()) == WITH_JSON
    assert {name for name, _, _ in CASES} | set(WITH_LIBVIRT) | {"install", "uninstall"} == WITH_JSON
    for name, file in WITH_LIBVIRT.items():
        assert f"require({documents()[name].strip('`')!r}".replace("'", '"') in (TESTS / file).read_text()


def test_every_case_is_one_of_the_page_and_every_document_has_a_case() -> None:
    for name, _, kind in CASES:
        assert f"`{kind}`" in documents()[name]
    told = {kind for cell in documents().values() for kind in re.findall(r"`(\w+)`", cell)}
    assert told == {kind for _, _, kind in CASES} | {
        "failure",
        "migration",
        "installation",
        "publication",
        "priorities",
        "outlook",
    }


def test_every_type_is_there_and_used() -> None:
    objects, others = schema()
    kinds = [*(key.kind for keys in objects.values() for key in keys.values()), *others.values()]
    used = {word for kind in kinds for word in re.findall(r"\w+", re.sub(r'"[^"]*"', "", kind))}
    assert used <= {*objects, *others, *PLAIN}
    printed = {kind for cell in documents().values() for kind in re.findall(r"`(\w+)`", cell)}
    included = {"matrix", "lease", "request", "plan"}
    assert {*objects, *others} == (used | printed | included) - PLAIN.keys()


@pytest.mark.parametrize(
    ("name", "words", "kind"), CASES, ids=[f"{name} {' '.join(words)}" for name, words, _ in CASES]
)
def test_every_command_prints_what_the_page_says(
    host: SimulatedHost,
    libvirtd: Driver,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    words: tuple[str, ...],
    kind: str,
) -> None:
    del libvirtd
    xml = domain('<ap:matrix adapters="10" domains="27"/>')
    path = tmp_path / "db9.xml"
    path.write_bytes(xml)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml)))
    assert MDEV.encode() in xml
    code = host.run(
        *name.split(),
        *({"FILE": str(path), "DIR": str(tmp_path)}.get(word, word) for word in words),
        "--json",
    )
    assert code == Exit.OK or name == "doctor"
    require(kind, said(capsys))


def test_errors(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in (
        (["no-such"], Exit.USAGE),
        (["release", "nobody"], Exit.REQUEST),
        (["mechanism", "overrides"], Exit.CONFLICT),
    ):
        assert host.run(*words, "--json") == code
        require("failure", said(capsys))


def test_a_switch_of_the_mechanism(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.write("sys/bus/ap/apmask", "-1")
    assert host.run("mechanism", "overrides", "--json") == Exit.OK
    require("mechanism", said(capsys))
    host.start(a_request("0", "1"))
    assert host.run("status", "--json") == Exit.OK
    found = said(capsys)
    require("status", found)
    assert found["pending"]["overrides"] == {"00.0001": ""}
    assert found["pending_returns"][0]["queues"] == ["00.0001"]


def test_a_broken_policy_and_a_guest_that_cannot_start(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("db4", 4, a_matrix("5", "1"), mdev(4))
    assert host.run("guest", "list", "--json", *CONNECT) == Exit.OK
    found = said(capsys)
    require("guests", found)
    assert {row["guest"]: row["error"] and row["error"]["kind"] for row in found}["db4"] == "host"
    host.write("etc/apvfio/apvfio.toml", "frobnicate = 1\n")
    assert host.run("status", "--json") == Exit.OK
    found = said(capsys)
    require("status", found)
    assert found["policy_error"]["kind"] == "request"


def test_an_installation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["install", "--prefix", "/usr"], ["uninstall"]):
        assert main(["--root", str(tmp_path), *words, "--json"]) == Exit.OK
        found = said(capsys)
        require("installation", found)
        assert found["files"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("queue", "0A.0001"),
        ("queue", 5),
        ("ids", "3-1"),
        ("time", "2026-01-31 11:00:00"),
        ("time", 1769857200.5),
        ("uuid", guest(1).upper().replace("0", "A")),
        ("number", True),
        ("owner", "somebody"),
        ("[queue]", "00.0001"),
        ("[queue]", ["x"]),
        ("{queue: text}", {"x": "y"}),
        ("pending", {"apmask": "", "aqmask": ""}),
        ("pending", {"apmask": "", "aqmask": "", "overrides": {}, "more": 1}),
        ("mechanism_name", "mode"),
        ("matrix | null", {}),
    ],
)
def test_what_differs_is_found(kind: str, value: object) -> None:
    assert list(faults(kind, value))
    with pytest.raises(AssertionError):
        require(kind, value)


def test_a_lease_is_a_matrix() -> None:
    assert set(schema()[0]["matrix"]) == set(Matrix._fields)
    assert list(faults("matrix", a_lease("0", "1-2").matrix.lists())) == []

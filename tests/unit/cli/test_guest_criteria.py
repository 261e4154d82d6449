# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest``: what its words mean, and what is said of words that make no sense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.domain.request import parse_domain
from apvfio.model.errors import Exit
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from criteria import a_criteria
from hosts import guest, mdev
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS = "any 2 adapters x 1 domain, cca, CEX7 or newer"
OPTION = "mode=cca,adapters=2,domains=1,min-generation=7"


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        made.define("db1", 1, device=mdev(1))
        yield made


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def request(libvirtd: Driver) -> Request | None:
    return parse_domain(libvirtd.guest("db1").xml())


def test_set_and_show_by_property(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--any", "mode=cca,adapters=2,min-generation=7", "--unchecked")
    assert host.run("guest", "set", "db1", *words, "-c", URI) == Exit.OK
    assert capsys.readouterr().err == ""
    found = request(libvirtd)
    assert found
    assert found.criteria == a_criteria("cca", 2, 1, 7)
    assert host.run("guest", "show", "db1", "-c", URI) == Exit.OK
    out = capsys.readouterr().out
    assert f"criteria        {WORDS}\n" in out
    assert "adapters  " not in out
    assert host.run("guest", "show", "db1", "--json", "-c", URI) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {
        "guest": "db1",
        "uuid": guest(1),
        "secure_execution": False,
        "mdev": mdev(1),
        "adapters": None,
        "domains": None,
        "control_domains": "",
        "criteria": {"any": OPTION, "cards": []},
    }


CCA, EP11 = f"mode=cca,adapters=2,mkvp-aes=0x{'1' * 16}", "mode=ep11,adapters=1,min-generation=8"


def test_several_kinds_of_adapters(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    def given(*words: str) -> tuple[object, object]:
        assert host.run("guest", "set", "db1", *words, "--unchecked", "-c", URI) == Exit.OK
        capsys.readouterr()
        assert host.run("guest", "show", "db1", "--json", "-c", URI) == Exit.OK
        shown = json.loads(capsys.readouterr().out)
        return shown["criteria"], shown["control_domains"]

    domains = {"any": "domains=2", "cards": [CCA, EP11]}
    assert given("--any", "domains=2", "--cards", CCA, "--cards", EP11) == (domains, "")
    # What is not named stays.
    assert given("--control-domains=usage") == (domains, "usage")
    assert given("--any", "domains=1") == ({**domains, "any": "domains=1"}, "usage")
    fewer = {"any": "domains=1", "cards": ["mode=cca,adapters=1", EP11]}
    assert given("--cards", "mode=cca,adapters=1", "--cards", EP11) == (fewer, "usage")
    found = request(libvirtd)
    assert found
    assert host.run("guest", "set", "db1", "--new-device", "--unchecked", "-c", URI) == Exit.OK
    again = request(libvirtd)
    assert again
    assert again.criteria == found.criteria
    assert host.run("guest", "show", "db1", "-c", URI) == Exit.OK
    out = capsys.readouterr().out
    assert "any (1 cca adapter + 1 ep11 adapter (CEX8 or newer)) x 1 domain, control domains those it" in out
    # One kind alone is written without <cards>, and a mode replaces all kinds.
    assert given("--cards", EP11)[0] == {
        "any": "mode=ep11,adapters=1,domains=1,min-generation=8",
        "cards": [],
    }
    assert given("--any", "adapters=2")[0] == {
        "any": "mode=ep11,adapters=2,domains=1,min-generation=8",
        "cards": [],
    }
    assert given("--cards", CCA, "--cards", EP11)[0] == {**domains, "any": "domains=1"}
    simple = {"any": "mode=accel,adapters=1,domains=1", "cards": []}
    assert given("--any", "mode=accel", "--control-domains=") == (simple, "")


def test_a_key_by_register_replaces_one_in_any_register(libvirtd: Driver, host: SimulatedHost) -> None:
    def keys(*words: str) -> list[str]:
        assert host.run("guest", "set", "db1", *words, "--unchecked", "-c", URI) == Exit.OK
        found = request(libvirtd)
        assert found
        assert found.criteria
        return [str(key) for key in found.criteria.cards[0].keys]

    aes, apka = "1" * 16, "2" * 16
    assert keys("--any", f"mode=cca,mkvp={aes}") == [f" 0x{aes}"]
    assert keys("--any", f"mkvp-aes={aes}") == [f"aes 0x{aes}"]
    assert keys("--any", f"mkvp-apka={apka}") == [f"aes 0x{aes}", f"apka 0x{apka}"]
    assert keys("--any", "domains=2") == [f"aes 0x{aes}", f"apka 0x{apka}"]
    assert keys("--any", f"mkvp={apka}") == [f" 0x{apka}"]


def test_ids_in_place_of_criteria_keep_the_control_domains(libvirtd: Driver, host: SimulatedHost) -> None:
    words = ("--any", "mode=cca", "--control-domains", "usage")
    assert host.run("guest", "set", "db1", *words, "-c", URI) == Exit.OK
    ids = ("--adapters", "1", "--domains", "1-2")
    for more in ((), ("--control-domains", "4"), ("--control-domains", "usage")):
        assert host.run("guest", "set", "db1", *ids, *more, "-c", URI) == Exit.OK
        found = request(libvirtd)
        assert found
        assert str(found.matrix.control_domains) == ("4" if "4" in more else "1-2")


def test_control_domains_beside_criteria(libvirtd: Driver, host: SimulatedHost) -> None:
    words = ("--any", "mode=cca", "--control-domains", "1-2,4")
    assert host.run("guest", "set", "db1", *words, "-c", URI) == Exit.OK
    found = request(libvirtd)
    assert found
    assert found.criteria
    assert str(found.criteria.control_domains) == "1-2,4"


def test_explicit_ids(libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--adapters", "0,0xa", "--domains", "1")
    assert host.run("guest", "set", "db1", *words, "-c", URI) == Exit.OK
    found = request(libvirtd)
    assert found
    assert isinstance(found.matrix, Matrix)
    capsys.readouterr()
    assert host.run("guest", "show", "db1", "-c", URI) == Exit.OK
    out = capsys.readouterr().out
    assert "adapters        0,10\n" in out
    assert "any" not in out


def test_nothing_to_show(libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("guest", "show", "db1", "-c", URI) == Exit.REQUEST
    assert "guest db1 has no annotation. Add one with 'apvfio guest set'." in capsys.readouterr().err
    assert host.run("guest", "set", "db2", "--any", "mode=cca", "-c", URI) == Exit.REQUEST
    assert "libvirt knows no guest db2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], Exit.USAGE, "either --adapters and --domains, or --any"),
        (["--adapters", "1"], Exit.USAGE, "either --adapters and --domains, or --any"),
        (["--any", "mode=ep11", "--domains", "1"], Exit.USAGE, "either --adapters and --domains"),
        (["--any", "mode=none"], Exit.REQUEST, "mode of --any is 'none'"),
        (["--cards", CCA, "--domains", "1"], Exit.USAGE, "either --adapters and --domains"),
        (
            ["--cards", CCA, "--any", "mode=cca"],
            Exit.REQUEST,
            "mode of --any cannot be combined with --cards",
        ),
        (["--cards", CCA, "--cards", "mode=ep11"], Exit.REQUEST, "adapters of --cards is missing"),
        (["--cards", "mode=cca,domains=1"], Exit.REQUEST, "--cards has 'domains=1', and knows only mode"),
        (["--cards", "mode=cca,adapters=1,mkvp-wk=1"], Exit.REQUEST, "names the register wk"),
        (["--any", "mode=cca", "--control-domains", "usages"], Exit.REQUEST, "neither an id nor a range"),
    ],
)
def test_words_that_make_no_sense(
    words: list[str],
    code: int,
    says: str,
    libvirtd: Driver,
    host: SimulatedHost,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert host.run("guest", "set", "db1", *words, "-c", URI) == code
    assert says in capsys.readouterr().err
    assert request(libvirtd) is None


def test_a_property_of_one_kind_among_several(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("guest", "set", "db1", "-c", URI)
    assert host.run(*words, "--cards", CCA, "--cards", EP11, "--unchecked") == Exit.OK
    before = request(libvirtd)
    assert host.run(*words, "--any", "adapters=2") == Exit.USAGE
    assert "adapters of --any does not say for which kind. Name all kinds" in capsys.readouterr().err
    assert request(libvirtd) == before

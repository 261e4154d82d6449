# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest``: what its words mean, and what is said of words that make no sense."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.domain.request import parse_domain
from apvfio.model.criteria import Criteria
from apvfio.model.errors import Exit
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
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
    assert found.criteria == Criteria("cca", 2, 1, 7)
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
        "criteria": OPTION,
    }


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

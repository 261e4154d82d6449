# SPDX-License-Identifier: Apache-2.0
"""apvfio status --adapter and --domain: who uses it, before it is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from criteria import a_criteria
from hosts import a_matrix, a_request, guest, mdev
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHOWN = f"""\
adapter 10 (0a): 4 queues
  guests that hold        g1: 0a.0001, 0a.0002, 0a.001b; held, mdev {mdev(1)}
  guests that request     db1: 0a.0001; annotation, shut off
                          db2: 0a.0002; mdevctl definition, shut off
  other mediated devices  {mdev(9)}: 0a.0004
  mdevctl starts now      none
  mdevctl definitions     {mdev(2)}: adapters 10, domains 2; started at boot
  used by the host        none
  reserved                0a.0004
  drained                 none
  pending returns         apmask 10, held by guest g1
"""
DEFINITION = {
    "mdev_type": AP_MDEVS.name,
    "start": "auto",
    "attrs": [{"assign_adapter": "10"}, {"assign_domain": "2"}],
}


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        made.define("db1", 1, a_matrix("0,10", "1"), mdev(1))
        made.define("db2", 2, None, mdev(2))
        made.define("db3", 3, a_matrix("1", "1"), mdev(3))
        made.define("any", 4, a_criteria("ep11"), mdev(4))
        yield made


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """IBM's host: a guest on adapters 0 and 10, somebody's device on 10, definition, key and reservation."""
    made = SimulatedHost(tmp_path)
    made.start(a_request("0,10", "1-2,27"))
    made.make_mdev(mdev(9), a_matrix("10", "4"))
    made.write(f"{AP_MDEVS.definitions}/{mdev(2)}", json.dumps(DEFINITION))
    made.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["0a.0004"]\n')
    made.write("etc/zkey/repository/vault.info", "apqns=01.0004\n")
    return made


def users(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert host.run("status", *words, "--json", "-c", URI) == Exit.OK
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_all_that_may_be_on_an_adapter(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("status", "--adapter", "0xa", "-c", URI) == Exit.OK
    assert capsys.readouterr().out == SHOWN


def test_a_domain(host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    found = users(host, capsys, "--domain", "1")
    assert found["area"] == {"adapters": "", "domains": "1", "everything": False}
    assert [entry["queue"] for entry in found["queues"]] == ["00.0001", "01.0001", "0a.0001"]
    assert [lease["uuid"] for lease in found["leases"]] == [guest(1)]
    assert [entry["guest"] for entry in found["guests"]] == ["db1", "db3"]
    assert (found["devices"], found["definitions"], found["reserved"]) == ([], [], [])
    assert found["libvirt_error"] is None


def test_what_the_host_does_with_its_queues(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert users(host, capsys, "--domain", "4")["host"]["keys"] == {"01.0004": "vault"}
    assert users(host, capsys, "--domain", "27")["host"]["keys"] == {}


def test_nobody(host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    found = users(host, capsys, "--adapter", "77")
    assert not any(found[key] for key in ("queues", "leases", "guests", "devices", "definitions", "reserved"))


def test_without_libvirt_the_rest_is_shown(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("status", "--adapter", "10", "-c", "test:///missing") == Exit.OK
    shown = capsys.readouterr().out
    assert "guests that request     not known: libvirt at test:///missing does not answer" in shown
    assert "g1: 0a.0001" in shown


@pytest.mark.parametrize("words", [["--adapter", "1", "--svg", "-"], ["--domain", "1", "--watch", "1"]])
def test_one_form_at_a_time(
    host: SimulatedHost, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("status", *words) == Exit.USAGE
    assert "exclude each other" in capsys.readouterr().err

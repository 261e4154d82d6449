# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest list``: real definitions in libvirt's test driver, a simulated host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.cli.guest import guests_text
from apvfio.libvirt.guest_status import guest_statuses
from apvfio.model.errors import Exit
from apvfio.sim.kernel import SimKernel
from apvfio.view.columns import columns
from apvfio.view.matrix_text import Look
from criteria import a_criteria
from hosts import a_matrix, a_request, guest, mdev
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        yield made


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def listed(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    assert host.run("guest", "list", "--json", "-c", URI) == Exit.OK
    return {row["guest"]: row for row in json.loads(capsys.readouterr().out)}


def test_each_with_its_state_and_whether_it_could_start(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("0", "1-2", 1))
    libvirtd.define("two", 2, a_matrix("0-1", "2"), mdev(2))
    libvirtd.define("three", 3, a_criteria("ep11"), mdev(3))
    libvirtd.define("four", 4, a_matrix("5", "1"), mdev(4))
    libvirtd.define("bare", 5, a_matrix("1", "1"))
    libvirtd.define("plain", 6)
    rows = listed(host, capsys)
    assert list(rows) == ["bare", "four", "one", "three", "two"]
    assert {name: (row["state"], row["can_start"]) for name, row in rows.items()} == {
        "bare": ("shut off", False),
        "four": ("shut off", False),
        "one": ("running", None),
        "three": ("shut off", True),
        "two": ("shut off", False),
    }
    assert rows["bare"]["error"]["message"].startswith("it requests AP queues but has no mediated device")
    assert rows["two"]["error"]["kind"] == "conflict"
    assert rows["four"]["error"]["message"].startswith("this host has no adapter 5")
    assert (rows["one"]["uuid"], rows["one"]["adapters"], rows["one"]["domains"]) == (guest(1), "0", "1-2")
    assert (rows["three"]["criteria"], rows["three"]["adapters"]) == (
        {"any": "mode=ep11,adapters=1,domains=1", "cards": []},
        None,
    )
    assert {name: row["conflicts"] for name, row in rows.items()} == {
        "bare": [],
        "four": [],
        "one": ["two"],
        "three": [],
        "two": ["one"],
    }


def test_in_words(libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("0", "1-2", 1))
    libvirtd.define("two", 2, a_matrix("0-1", "2"), mdev(2))
    assert host.run("guest", "list", "-c", URI) == Exit.OK
    assert capsys.readouterr().out.splitlines() == [
        "GUEST  STATE     REQUEST                  NOW",
        "one    running   adapters 0, domains 1-2  has its queues",
        "two    shut off  adapters 0-1, domains 2  00.0002 is held by guest g1",
        "",
        "one and two cannot run together: both request 00.0002",
    ]


def test_guests_without_queues_are_listed_if_all_are(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1"), mdev(1))
    libvirtd.define("plain", 2)
    assert host.run("guest", "list", "--all", "-c", URI) == Exit.OK
    assert "plain  shut off  nothing                can start\n" in capsys.readouterr().out
    assert host.run("guest", "list", "-c", URI) == Exit.OK
    assert "plain" not in capsys.readouterr().out


def test_two_that_would_leave_the_host_too_little(
    libvirtd: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(adapters={0: "cca", 1: "cca"}))
    host.write("etc/apvfio/apvfio.toml", "[keep]\ncca = 5")
    libvirtd.define("one", 1, a_matrix("0", "1"), mdev(1))
    libvirtd.define("two", 2, a_matrix("1", "2"), mdev(2))
    assert host.run("guest", "list", "-c", URI) == Exit.OK
    out = capsys.readouterr().out
    assert out.count("can start\n") == 2
    assert "one and two cannot run together: the host would keep too few queues" in out


def test_the_same_device(libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1"), mdev(1))
    libvirtd.define("two", 2, a_matrix("1", "2"), mdev(1))
    host.run("guest", "list", "-c", URI)
    assert "one and two cannot run together: both name the same mediated device" in capsys.readouterr().out


def test_a_guest_that_runs_with_other_queues(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("10", "4", 1))
    libvirtd.define("two", 2, a_matrix("1", "1")).create()
    host.run("guest", "list", "-c", URI)
    out = capsys.readouterr().out
    assert "has adapters 10, domains 4; its next start requests other queues" in out
    assert "has no queues from apvfio" in out


def test_a_host_that_cannot_be_asked(
    libvirtd: Driver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from apvfio.cli.main import main

    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1))
    assert main(["--root", str(tmp_path), "guest", "list", "-c", URI]) == Exit.OK
    assert "this host cannot be asked" in capsys.readouterr().out
    assert main(["--root", str(tmp_path), "guest", "list", "--json", "-c", URI]) == Exit.OK
    assert json.loads(capsys.readouterr().out)[0]["can_start"] is None


def test_a_policy_that_cannot_be_used_hides_no_guest(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("0", "1-2", 1))
    libvirtd.define("two", 2, a_matrix("1", "2"), mdev(2))
    host.write("etc/apvfio/apvfio.toml", "[reserve\n")
    rows = listed(host, capsys)
    assert (rows["one"]["state"], rows["one"]["error"]) == ("running", None)
    assert rows["two"]["can_start"] is False
    assert rows["two"]["error"]["message"].startswith("the policy /etc/apvfio/apvfio.toml cannot be used: ")


def test_no_guest(libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("guest", "list", "-c", URI) == Exit.OK
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", [20, 40, 60, 80, 132, None])
def test_wide_and_narrow_terminals(libvirtd: Driver, host: SimulatedHost, width: int | None) -> None:
    libvirtd.define("a-guest-with-a-rather-long-name-of-its-own", 1, a_matrix("0-1,10", "1-2,4,27"), mdev(1))
    libvirtd.define("二", 2, a_criteria("ep11", 2, 2, 7), mdev(2))
    libvirtd.define("three", 3, a_matrix("5", "1"), mdev(3))
    guests = [libvirtd.guest(name) for name in libvirtd.names()]
    with host.opened() as system:
        look = Look(width=width or 80, folds=width is not None)
        lines = list(guests_text(*guest_statuses(system, guests), look))
    assert all(columns(line) <= width for line in lines) if width else True
    text = "".join("".join(lines).split())
    assert "thishosthasnoadapter5(0x5);ithas0-1,10" in text
    assert "三" not in text
    assert "二" in text


def test_a_running_guest_whose_device_is_gone(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("0", "1-2", 1))
    assert listed(host, capsys)["one"]["now"] == "has its queues"
    host.write(f"sys/bus/mdev/devices/{mdev(1)}/remove", "1")
    row = listed(host, capsys)["one"]
    assert row["now"] == f"holds adapters 0, domains 1-2, but its mediated device {mdev(1)} is gone"
    host.run("status", "--json")
    drift = json.loads(capsys.readouterr().out)["drift"]
    assert drift == [f"guest g1: {fault}" for fault in row["faults"]]


def test_a_running_guest_whose_device_holds_something_else(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("0", "1-2", 1))
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(1)}/unassign_domain", "2")
    now = listed(host, capsys)["one"]["now"]
    assert "holds adapters 0, domains 1 instead of adapters 0, domains 1-2" in now


def test_a_running_guest_without_the_device_of_its_lease(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device is not plugged in: the queues are kept for it, and it does not have them."""
    libvirtd.define("one", 1, a_matrix("0", "1-2")).create()
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1))
    host.start(a_request("0", "1-2", 1))
    assert listed(host, capsys)["one"]["faults"] == [f"it has no device instead of {mdev(1)}"]


def test_a_running_guest_whose_definition_asks_for_nothing_any_more(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    host.start(a_request("0", "1-2", 1))
    libvirtd.define("one", 1)
    row = listed(host, capsys)["one"]
    assert (row["state"], row["held"]) == ("running", ["00.0001", "00.0002"])
    assert row["now"] == "has adapters 0, domains 1-2, and will have none at its next start"
    host.run("guest", "list", "-c", URI)
    assert "one    running  nothing  has adapters 0" in capsys.readouterr().out


def test_a_stopped_guest_whose_queues_are_not_returned_yet(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1))
    host.start(a_request("0", "1-2", 1))
    row = listed(host, capsys)["one"]
    assert (row["can_start"], row["held"]) == (True, ["00.0001", "00.0002"])
    assert row["now"].endswith("not returned yet: 'apvfio reconcile' returns them")


def test_a_running_guest_whose_device_is_gone_and_whose_lease_has_ended(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, a_matrix("0", "1"), mdev(1)).create()
    host.start(a_request("0", "1", 1))
    host.write(f"sys/bus/mdev/devices/{mdev(1)}/remove", "1")
    host.run("reconcile")
    capsys.readouterr()
    now = f"has no queues: its mediated device {mdev(1)} is gone"
    assert listed(host, capsys)["one"]["now"] == now
    libvirtd.define("one", 1)
    row = listed(host, capsys)["one"]
    assert (row.get("adapters"), row["now"]) == (None, now)


def test_a_running_guest_with_a_device_that_nothing_requests(
    libvirtd: Driver, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("one", 1, None, mdev(1)).create()
    host.start(a_request("0", "1", 2)._replace(mdev=mdev(1)))
    assert (
        listed(host, capsys)["one"]["now"]
        == f"has no queues from apvfio, but has the mediated device {mdev(1)}"
    )

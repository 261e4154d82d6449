# SPDX-License-Identifier: Apache-2.0
"""``apvfio status GUEST``, and ``apvfio log --guest``: one guest, known to libvirt or to apvfio alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.engine.stop import stop_guest
from apvfio.model.errors import Exit
from apvfio.sim.kernel import SimKernel
from criteria import a_criteria
from hosts import a_matrix, a_request, mdev
from json_schema import require
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apvfio.model.request import Request

NOBODY = "test:///missing"
"""Where no libvirt daemon answers."""


def uuid(number: int) -> str:
    """The uuid that the driver gives to a guest."""
    return f"{number:08x}-1111-4111-8111-111111111111"


def request(name: str, number: int, adapters: str, domains: str) -> Request:
    return a_request(adapters, domains, number)._replace(guest=name, guest_uuid=uuid(number))


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        yield made


@pytest.fixture
def host(tmp_path: Path, libvirtd: Driver) -> SimulatedHost:
    """Guest one runs with its queues; two requests one of them."""
    made = SimulatedHost(tmp_path)
    libvirtd.define("one", 1, a_matrix("0", "1-2"), mdev(1)).create()
    made.start(request("one", 1, "0", "1-2"))
    libvirtd.define("two", 2, a_matrix("0", "2,4"), mdev(2))
    return made


def document(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], name: str, uri: str = URI
) -> dict[str, Any]:
    capsys.readouterr()
    assert host.run("status", name, "--json", "-c", uri) == Exit.OK
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    require("guest_status", found)
    return found


def lines(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], name: str, uri: str = URI
) -> dict[str, str]:
    """The labelled lines."""
    capsys.readouterr()
    assert host.run("status", name, "-c", uri) == Exit.OK
    said = capsys.readouterr().out.split("\n\n")[0].splitlines()
    return {line[:17].strip(): line[17:] for line in said}


def test_a_guest_that_runs(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(host, capsys, "one")
    assert (found["guest"], found["uuid"], found["state"]) == ("one", uuid(1), "running")
    assert (found["lease"]["mdev"], found["lease"]["freed_by"]) == (mdev(1), "adapters")
    assert (found["device"]["mdev"], found["device"]["exists"]) == (mdev(1), True)
    assert [(one["queue"], one["owner"]) for one in found["queues"]] == [
        ("00.0001", "guest one"),
        ("00.0002", "guest one"),
    ]
    assert [one["ids"] for one in found["pending_returns"]] == ["0"]
    assert (found["plan"]["running"], found["plan_error"]) == (True, None)
    assert [event["kind"] for event in found["events"]] == ["planned", "started"]
    assert found["conflicts"] == ["two"]
    shown = lines(host, capsys, "one")
    assert shown["now"] == "has its queues"
    assert shown["request"] == "adapters 0, domains 1-2 (annotation)"
    assert shown["cannot run with"] == "two: both request 00.0002"
    assert shown["pending return"] == "apmask 0, held by guest one"
    assert shown["next start"].startswith("can start again after a stop; its queues are freed by adapters")


def test_the_table_and_the_events(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert host.run("status", "two", "-c", URI) == Exit.OK
    _, table = capsys.readouterr().out.split("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        ["QUEUE", "HELD", "REQUESTED", "OWNER", "DRIVER", "STATE"],
        ["00.0002", "no", "yes", "guest", "one", "vfio_ap"],
        ["00.0004", "no", "yes", "free", "vfio_ap"],
    ]
    assert host.run("status", "one", "-c", URI) == Exit.OK
    *_, events = capsys.readouterr().out.split("\n\n")
    first, *_, last = events.splitlines()
    assert first == "last events:"
    assert last == f"'apvfio --sim {host.path} log --guest one' shows all events of this guest"


def test_a_guest_that_cannot_start(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(host, capsys, "two")
    assert (found["state"], found["can_start"], found["plan"]) == ("shut off", False, None)
    assert found["plan_error"]["message"].startswith("00.0002 is held by guest one")
    assert (found["lease"], found["device"]["exists"], found["events"]) == (None, False, [])
    shown = lines(host, capsys, "two")
    assert shown["holds"] == "no queues"
    assert shown["next start"].startswith("fails: guest two: 00.0002 is held by guest one. Stop that guest")
    assert shown["mediated device"] == f"{mdev(2)}: does not exist"


def test_names_uuids_and_ids(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    number = str(libvirtd.connection.lookupByName("one").ID())
    for name in ("one", uuid(1), uuid(1).upper(), number):
        assert document(host, capsys, name)["guest"] == "one"
        assert host.run("log", "--guest", name, "-c", URI) == Exit.OK
        assert len(capsys.readouterr().out.splitlines()) == 2


def test_criteria_and_nothing(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("any", 3, a_criteria("cca"), mdev(3))
    libvirtd.define("plain", 4)
    found = document(host, capsys, "any")
    assert [one["queue"] for one in found["queues"]] == found["plan"]["queues"]
    assert found["plan"]["queues"] == ["01.0001"]
    found = document(host, capsys, "plain")
    assert (found["plan"], found["plan_error"], found["queues"]) == (None, None, [])
    assert (found["device"], found["criteria"]) == (None, None)
    assert lines(host, capsys, "plain")["next start"] == "without AP queues"


def test_an_annotation_that_makes_no_sense(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("bare", 5, a_matrix("0", "1"))
    found = document(host, capsys, "bare")
    assert found["plan_error"]["message"].startswith("it requests AP queues but has no mediated device")
    assert lines(host, capsys, "bare")["request"] == "?"


@pytest.mark.parametrize("name", ["one", uuid(1)])
def test_without_libvirt_the_records_are_shown(
    name: str, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(host, capsys, name, NOBODY)
    assert found["libvirt_error"]["message"].startswith(f"libvirt at {NOBODY} does not answer")
    assert (found["state"], found["plan"], found["held"]) == ("unknown", None, ["00.0001", "00.0002"])
    shown = lines(host, capsys, name, NOBODY)
    assert (shown["request"], shown["next start"]) == ("not known", "not known")
    assert host.run("status", "two", "-c", NOBODY) == Exit.HOST


def test_a_guest_that_is_no_longer_defined(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = libvirtd.connection.lookupByName("one")
    domain.destroy()
    with host.opened() as system:
        stop_guest(system, uuid(1))
    domain.undefine()
    found = document(host, capsys, "one")
    assert (found["libvirt_error"]["message"], found["lease"]) == ("libvirt knows no guest one.", None)
    assert [event["kind"] for event in found["events"]] == ["planned", "started", "stopped"]
    assert host.run("log", "--guest", "one", "-c", URI) == Exit.OK
    assert "no longer has" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status", "on"), "libvirt knows no guest on. Did you mean one?"),
        (("log", "--guest", "on"), "the audit log has no event of a guest on. Did you mean one?"),
        (("log", "--guest", "on", "--follow"), "the audit log has no event of a guest on."),
        (("log", "--guest", "on", "--queue", "00.0001"), "the audit log has no event of a guest on."),
    ],
)
def test_a_guest_that_nobody_knows(
    words: tuple[str, ...], says: str, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run(*words, "-c", URI) == Exit.REQUEST
    assert says in capsys.readouterr().err


def test_a_guest_without_events_has_none(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("log", "--guest", "two", "--json", "-c", URI) == Exit.OK
    assert json.loads(capsys.readouterr().out) == []


def test_a_name_of_two_guests_shows_the_events_of_both(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(request("one", 7, "1", "1"))
    assert host.run("log", "--guest", "one", "--json", "-c", URI) == Exit.OK
    assert {event["uuid"] for event in json.loads(capsys.readouterr().out)} == {uuid(1), uuid(7)}


@pytest.mark.parametrize("option", [("--watch",), ("--svg", "-"), ("--adapter", "0")])
def test_the_other_forms_are_of_the_whole_host(
    option: tuple[str, ...], host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("status", "one", *option, "-c", URI) == Exit.USAGE
    assert f"GUEST and {option[0]} exclude each other." in capsys.readouterr().err


def test_the_list_names_the_log_of_a_guest_that_has_lost_something(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("guest", "list", "-c", URI) == Exit.OK
    assert "apvfio log" not in capsys.readouterr().out
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(1)}/remove", "1")
    assert host.run("guest", "list", "-c", URI) == Exit.OK
    assert capsys.readouterr().out.endswith("\nwhen that happened: 'apvfio log --guest=one'\n")
    assert "its mediated device" in lines(host, capsys, "one")["now"]


def test_the_doctor_names_the_log_of_a_guest_with_a_problem(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, code, hint in (
        ("two", Exit.CONFLICT, True),
        ("one", Exit.OK, False),
        ("x", Exit.REQUEST, False),
    ):
        capsys.readouterr()
        assert host.run("doctor", name, "-c", URI) == code
        said = capsys.readouterr().out
        last = f"What happened to it before: apvfio --sim {host.path} log --guest={name}\n"
        assert said.endswith(last) is hint


def test_a_long_table_is_cut(tmp_path: Path, libvirtd: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(adapters=dict.fromkeys(range(8), "cca")))
    libvirtd.define("one", 1, a_matrix("0-7", "1-2,4"), mdev(1))
    libvirtd.define("all", 2, a_matrix("0-7", "1-2,4,27"), mdev(2))
    host.write("etc/apvfio/apvfio.toml", "")
    assert host.run("status", "one", "-c", URI) == Exit.OK
    assert "more:" not in capsys.readouterr().out
    host = SimulatedHost(_below(tmp_path), SimKernel.new(adapters=dict.fromkeys(range(9), "cca")))
    libvirtd.define("all", 2, a_matrix("0-8", "1-2,4,27"), mdev(2))
    assert host.run("status", "all", "-c", URI) == Exit.OK
    assert f"and 4 more: 'apvfio --sim {host.path} queues' shows all" in capsys.readouterr().out


def _below(directory: Path) -> Path:
    made = directory / "other"
    made.mkdir()
    return made

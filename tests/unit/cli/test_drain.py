# SPDX-License-Identifier: Apache-2.0
"""apvfio drain: guests leave an adapter or a domain before a planned change, and come back after it."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import Exit
from apvfio.model.host import OVERRIDES
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import DRAINS
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from apvfio.store import ledger_file
from apvfio.store.processes import now
from criteria import a_criteria
from hosts import a_matrix, mdev
from json_schema import require
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EP11 = a_criteria("ep11", adapters=1, domains=2)
ANY, BY_ID = 1, 2
DRY = f"""\
would drain adapter 10 (0a)
would move guest any: it would give up 0a.0001, 0a.0002
    and get 00.0001, 00.0002
    warning: the host loses 1 collateral queue: 00.0004
guest db1 would stay on 0a.0004: it requests its queues by id
    virsh -c {URI} shutdown db1
"""


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        made.define("any", ANY, EP11, mdev(ANY))
        made.define("db1", BY_ID, a_matrix("10", "4"), mdev(BY_ID))
        yield made


def uuid(n: int) -> str:
    return f"{n:08x}-1111-4111-8111-111111111111"


ANY_REQUEST = Request("any", uuid(ANY), mdev(ANY), Matrix(), criteria=EP11)
ID_REQUEST = Request("db1", uuid(BY_ID), mdev(BY_ID), a_matrix("10", "4"))


class Rig:
    """A host with three cards in mode ep11 and libvirt's test driver."""

    def __init__(self, directory: Path, libvirtd: Driver, capsys: pytest.CaptureFixture[str]) -> None:
        adapters = {0: "ep11", 10: "ep11", 11: "ep11"}
        self.host = SimulatedHost(directory, SimKernel.new(adapters=adapters, domains=IdSet([1, 2, 4])))
        # So that any's queues are on the card that is to go.
        self.host.write("etc/apvfio/apvfio.toml", '[reserve]\nadapters = "0,11"\n')
        self.driver, self._capsys = libvirtd, capsys

    def start(self, name: str) -> None:
        """The guest starts, as libvirt and its hook do it."""
        self.host.start(ANY_REQUEST if name == "any" else ID_REQUEST)
        self.driver.connection.lookupByName(name).create()

    def stop(self, name: str) -> None:
        self.driver.connection.lookupByName(name).destroy()
        with self.host.opened() as system:
            release_guest(system, uuid(ANY if name == "any" else BY_ID))

    def run(self, *words: str, code: int = Exit.OK) -> str:
        assert self.host.run("drain", "-c", URI, *words) == code
        return self._capsys.readouterr().out

    def said(self) -> str:
        return self._capsys.readouterr().out

    def json(self, *words: str, code: int = Exit.OK, kind: str = "drain") -> Any:
        found = json.loads(self.run(*words, "--json", code=code))
        require(kind, found)
        return found

    def holds(self, n: int) -> Matrix:
        with self.host.opened() as system:
            (lease,) = ledger_file.load(system.files, system.boot_id).of_guest(uuid(n))
            assert lease.state == "held"
            assert lease.live_change is None
            assert read_host(system.sysfs).mdevs[lease.mdev] == lease.matrix
            return lease.matrix


@pytest.fixture
def rig(tmp_path: Path, libvirtd: Driver, capsys: pytest.CaptureFixture[str]) -> Rig:
    """Both guests run, on adapter 10."""
    made = Rig(tmp_path, libvirtd, capsys)
    made.start("any")
    made.start("db1")
    assert made.holds(ANY) == a_matrix("10", "1-2")
    made.host.write("etc/apvfio/apvfio.toml", "")
    return made


def test_a_dry_run_says_who_moves_and_who_must_be_stopped(rig: Rig) -> None:
    assert rig.run("--adapter", "0xa", "-n") == DRY
    assert rig.holds(ANY) == a_matrix("10", "1-2")
    assert rig.host.read(DRAINS) is None


def test_a_drain_says_what_it_did(rig: Rig) -> None:
    said = rig.run("--adapter", "0xa", "--yes", code=Exit.CONFLICT)
    assert "moved guest any: it gave up 0a.0001, 0a.0002\n    and got 00.0001, 00.0002\n" in said
    assert "guest db1 stays on 0a.0004: it requests its queues by id\n" in said
    assert "would" not in said


def test_guests_by_criteria_move_and_come_back(rig: Rig) -> None:
    found = rig.json("--adapter", "10", "--yes", code=Exit.CONFLICT)
    (move,) = found["moves"]
    assert (move["guest"], move["given_up"]) == ("any", ["0a.0001", "0a.0002"])
    (stays,) = found["stays"]
    assert (stays["guest"], stays["commands"]) == ("db1", [f"virsh -c {URI} shutdown db1"])
    assert rig.holds(ANY) == a_matrix("0", "1-2")
    rig.stop("db1")
    assert rig.json("--adapter", "10", "--yes")["stays"] == []
    assert rig.run("--restore", "--dry-run").endswith(
        f"guest db1 had to stop for the drain and is shut off; to start it:\n    virsh -c {URI} start db1\n"
    )

    (ended,) = rig.json("--restore", "--yes", kind="restore")["drains"]
    assert [move["gained"] for move in ended["moves"]] == [["0a.0001", "0a.0002"]]
    assert [one["guest"] for one in ended["start_again"]] == ["db1"]
    assert rig.holds(ANY) == a_matrix("10", "1-2")
    assert rig.host.read(DRAINS) is None


def test_no_guest_starts_on_a_drained_queue_until_the_restore(rig: Rig) -> None:
    rig.stop("db1")
    rig.run("--adapter", "10", "--yes")
    assert refusal(rig, ID_REQUEST) == (
        "guest db1: 0a.0004 is drained for a planned change. "
        "Request other queues, or end the drain: 'apvfio status' shows it, and 'apvfio drain --restore' "
        "ends all drains."
    )
    rig.run("--domain", "2", "--yes")
    assert rig.host.run("doctor", "db1", "--json", "-c", URI) == Exit.POLICY
    (refused,) = [one for one in json.loads(rig.said())["checks"] if one["id"] == "refused"]
    # Not that of domain 2, which is somebody else's affair.
    assert [" ".join(words.split()[3:]) for words in refused["commands"]] == ["drain --restore --adapter 10"]
    rig.run("--domain", "2", "--restore", "--yes")
    rig.stop("any")
    assert started(rig, ANY_REQUEST).adapters == IdSet([0])
    with rig.host.opened() as system:
        release_guest(system, uuid(ANY))
    rig.run("--restore", "--yes")
    assert started(rig, ID_REQUEST) == a_matrix("10", "4")


def started(rig: Rig, request: Request) -> Matrix:
    with rig.host.opened() as system:
        return start_guest(system, request).matrix


def refusal(rig: Rig, request: Request) -> str:
    with pytest.raises(Exception, match="drained") as caught:
        started(rig, request)
    return str(caught.value)


def test_a_domain_and_all(rig: Rig) -> None:
    found = rig.json("--domain", "2", "-n")
    # On its card the other domain that is left is db1's.
    assert [move["gained"] for move in found["moves"]] == [["00.0001", "00.0004"]]
    assert found["stays"] == []
    assert rig.json("--domain", "4", "-n")["moves"] == []
    found = rig.json("--all", "-n")
    assert found["moves"] == []
    assert {one["guest"] for one in found["stays"]} == {"any", "db1"}
    assert any("cannot be moved: no queue satisfies" in one["why"] for one in found["stays"])


def test_a_guest_that_was_started_since_stays_where_it_is(rig: Rig) -> None:
    rig.run("--adapter", "10", "--yes", code=Exit.CONFLICT)
    rig.stop("any")
    with mock.patch("apvfio.store.stop_records.now", return_value=now() + 1):
        rig.start("any")
    moved = rig.holds(ANY)
    (ended,) = rig.json("--restore", "--yes", kind="restore")["drains"]
    assert (ended["moves"], ended["stays"]) == ([], [])
    assert rig.holds(ANY) == moved


def test_a_guest_is_not_moved_back_to_what_is_taken(rig: Rig) -> None:
    """Somebody's mediated device has its former queues."""
    rig.run("--adapter", "10", "--yes", code=Exit.CONFLICT)
    rig.host.write("sys/bus/ap/apmask", "-10")
    rig.host.make_mdev(mdev(9), a_matrix("10", "1"))
    moved = rig.holds(ANY)
    (ended,) = rig.json("--restore", "--yes", kind="restore")["drains"]
    (stays,) = ended["stays"]
    assert mdev(9) in stays["why"]
    assert stays["commands"] == []
    assert rig.holds(ANY) == moved


def test_a_device_of_others_is_named(rig: Rig) -> None:
    rig.host.write("sys/bus/ap/apmask", "-11")
    rig.host.make_mdev(mdev(9), a_matrix("11", "1"))
    (device,) = rig.json("--adapter", "11", "-n")["devices"]
    assert (device["queues"], device["commands"]) == (["0b.0001"], [f"mdevctl stop -u {mdev(9)}"])


def test_overrides_of_the_administrator_are_cleared_and_set_again(
    tmp_path: Path, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    """A queue that disappears with one keeps the masks locked until the next boot."""
    rig = Rig(tmp_path, libvirtd, capsys)
    rig.host.write("etc/apvfio/apvfio.toml", f'mechanism = "{OVERRIDES}"\n')
    queue = Apqn(10, 4)
    for path, text in (
        (f"bus/ap/devices/{queue}/driver_override", "vfio_ap"),
        ("bus/ap/drivers/cex4queue/unbind", str(queue)),
        ("bus/ap/drivers_probe", str(queue)),
    ):
        rig.host.write(f"sys/{path}", text)
    rig.start("any")
    found = rig.json("--adapter", "10", "-n")
    assert found["overrides"] == {"0a.0004": "vfio_ap"}
    found = rig.json("--adapter", "10", "--yes")
    assert found["overrides"] == {"0a.0004": "vfio_ap"}
    with rig.host.opened() as system:
        host = read_host(system.sysfs, overrides=True)
    assert {one.adapter for one in host.overrides} == ({0} if rig.holds(ANY).adapters else set())
    assert host.drivers[queue] == "cex4queue"
    rig.run("--restore", "--yes")
    with rig.host.opened() as system:
        host = read_host(system.sysfs, overrides=True)
    assert (host.overrides[queue], host.drivers[queue]) == ("vfio_ap", "vfio_ap")


def test_status_shows_a_drain(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.run("--adapter", "10", "--yes", code=Exit.CONFLICT)
    assert rig.host.run("status") == Exit.OK
    line = r"(?m)^drained    adapter 10 \(0a\) since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"
    assert re.search(line, capsys.readouterr().out)
    assert rig.host.run("status", "--json") == Exit.OK
    (shown,) = json.loads(capsys.readouterr().out)["drains"]
    assert (shown["area"]["adapters"], shown["restoring"]) == ("10", False)
    assert rig.host.run("status", "--domain", "1", "-c", URI) == Exit.OK
    assert "drained                 adapter 10 (0a) since 20" in capsys.readouterr().out


def test_a_damaged_file_refuses_starts_and_says_so(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.stop("db1")
    rig.host.write(DRAINS, '{"version": 1, "drains": [{}]}')
    with pytest.raises(Exception, match=f"/{DRAINS} is damaged: adapters is 'None'"):
        started(rig, ID_REQUEST)
    assert rig.host.run("status") == Exit.OK
    assert f"/{DRAINS} is damaged" in capsys.readouterr().out


class Terminal(io.StringIO):
    """A terminal on which somebody answers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", Exit.CONFLICT), ("n\n", Exit.FAILURE), ("", Exit.FAILURE)]
)
def test_it_asks_on_a_terminal(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert rig.host.run("drain", "-c", URI, "--adapter", "10") == code
    said = capsys.readouterr().err
    assert "would move guest any" in said
    assert "Drain adapter 10 (0a)? [y/N] " in said
    assert (rig.host.read(DRAINS) is None) == (code == Exit.FAILURE)


def test_without_a_terminal_it_wants_yes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    rig.run("--adapter", "10", code=Exit.USAGE)
    assert rig.host.read(DRAINS) is None


def test_what_makes_no_sense(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, says in (
        ([], Exit.USAGE, "drain takes one of --adapter, --domain and --all."),
        (["--restore"], Exit.OK, ""),
        (["--adapter", "11", "--yes"], Exit.OK, ""),
        (["--restore", "--adapter", "1"], Exit.REQUEST, "adapter 1 (01) is not drained; adapter 11 (0b) is."),
        (["--restore", "--yes"], Exit.OK, ""),
    ):
        assert rig.host.run("drain", "-c", URI, *words) == code
        assert says in capsys.readouterr().err


def test_libvirt_is_needed_only_if_a_guest_holds_queues(rig: Rig) -> None:
    words = ("drain", "-c", "test:///missing", "--yes")
    assert rig.host.run(*words, "--adapter", "10") == Exit.HOST
    assert rig.host.read(DRAINS) is None
    assert rig.host.run(*words, "--adapter", "11") == Exit.OK

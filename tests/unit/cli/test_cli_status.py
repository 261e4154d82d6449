# SPDX-License-Identifier: Apache-2.0
"""apvfio status, its JSON to the letter."""

from __future__ import annotations

import io
import json
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.cli.status import describe
from apvfio.cli.terminal import look, print_lines
from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from hosts import a_matrix, a_request, guest, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

RUNNING = """\
mechanism  masks
kernel     vfio_ap loaded, override, ap_config, strict return
apmask     1-9,11-255
aqmask     0-255

adapter  0001 0002 0004 001b
                        27
  00      a    a    a    ○
  01      ·    ·    ·    ■
  0a  10  a    a    a    ○

  a  guest g1                  6 queues
  ○  free                      2 queues
  ·  host                      3 queues
  ■  host, reserved by policy  1 queue

guest g1: adapters 0,10, domains 1-2,4; freed by adapters, held, mdev 00000001-0000-4000-8000-000000000000
pending returns: apmask 0,10 (held by guest g1)
"""


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def status(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert host.run("status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_a_guest_on_ibms_host(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["01.001b"]\n')
    host.start(a_request("0,10", "1,2,4"))
    assert host.run("status") == 0
    assert capsys.readouterr().out == RUNNING


def test_json_is_what_the_contract_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(adapters={0: "accel", 1: "cca"}, domains=IdSet([1, 2])))
    host.start(a_request("0", "1-2"))
    host.write("sys/bus/ap/drivers/cex4queue/unbind", "01.0002")
    shown = status(host, capsys)
    (lease,) = shown["leases"]
    assert datetime.now(timezone.utc) - datetime.fromisoformat(lease.pop("since")) < timedelta(minutes=1)
    assert shown == {
        "mechanism": "masks",
        "kernel": {"vfio_ap": True, "override": True, "ap_config": True, "strict_return": True},
        "apmask": "1-255",
        "aqmask": "0-255",
        "queues": [
            {
                "queue": "00.0001",
                "driver": "vfio_ap",
                "owner": "guest g1",
                "state": None,
                "master_keys": None,
            },
            {
                "queue": "00.0002",
                "driver": "vfio_ap",
                "owner": "guest g1",
                "state": None,
                "master_keys": None,
            },
            {"queue": "01.0001", "driver": "cex4queue", "owner": "host", "state": None, "master_keys": None},
            {"queue": "01.0002", "driver": None, "owner": "unbound", "state": None, "master_keys": None},
        ],
        "leases": [
            {
                "guest": "g1",
                "uuid": guest(1),
                "mdev": mdev(1),
                "adapters": "0",
                "domains": "1-2",
                "control_domains": "",
                "freed_by": "adapters",
                "state": "held",
                "created": True,
                "expected": False,
                "secure_execution": False,
                "running": None,
            }
        ],
        "claims": [],
        "pending": {"apmask": "0", "aqmask": "", "overrides": {}},
        "pending_returns": [
            {
                "attribute": "apmask",
                "ids": "0",
                "held_by": [{"kind": "guest", "name": "g1", "mdev": mdev(1)}],
            }
        ],
        "drift": [],
        "drains": [],
        "policy_error": None,
        "picture": {
            "adapters": [{"adapter": "00", "type": "CEX8A"}, {"adapter": "01", "type": "CEX8C"}],
            "domains": ["0001", "0002"],
            "marks": {"00.0001": "a", "00.0002": "a", "01.0001": "·", "01.0002": "?"},
            "legend": [
                {"mark": "a", "hue": 0, "text": "guest g1", "counted": "2 queues"},
                {"mark": "·", "hue": None, "text": "host", "counted": "1 queue"},
                {"mark": "?", "hue": None, "text": "unbound", "counted": "1 queue"},
            ],
            "lost": None,
        },
    }


def test_foreign_devices_and_override_mode(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("sys/bus/ap/devices/0a.0001/driver_override", "vfio_ap")
    host.write("sys/bus/ap/drivers/cex4queue/unbind", "0a.0001")
    host.write("sys/bus/ap/drivers_probe", "0a.0001")
    host.make_mdev(mdev(5), a_matrix("10", "1"))
    found = status(host, capsys)
    assert found["mechanism"] == "overrides"
    queues = found["queues"]
    assert isinstance(queues, list)
    expected = {
        "queue": "0a.0001",
        "driver": "vfio_ap",
        "owner": f"mdev {mdev(5)}",
        "state": None,
        "master_keys": None,
    }
    assert expected in queues
    assert found["leases"] == []


def test_an_older_kernel_without_vfio_ap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new("6.1", vfio_ap=False, apmask="0x00"))
    found = status(host, capsys)
    assert found["kernel"] == {
        "vfio_ap": False,
        "override": False,
        "ap_config": False,
        "strict_return": False,
    }
    host.run("status")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["kernel     vfio_ap NOT loaded", "apmask     empty"]
    assert lines[7] == "  00      ?    ?    ?    ?"
    assert lines[-2:] == ["no guest holds queues", "pending returns: nothing"]


def test_drift_is_told(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0", "1,2,4"))
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(1)}/remove", "1")
    assert status(host, capsys)["drift"] == [f"guest g1: its mediated device {mdev(1)} is gone"]
    host.run("status")
    assert capsys.readouterr().out.endswith(
        f"\n\ndrift:\n  guest g1: its mediated device {mdev(1)} is gone\n"
    )


def test_control_domains_are_shown(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    request = a_request("0", "1,2,4")
    host.start(request._replace(matrix=request.matrix._replace(control_domains=IdSet([1, 2]))))
    host.run("status")
    assert "guest g1: adapters 0, domains 1-2,4, control domains 1-2; freed by" in capsys.readouterr().out


def test_pending_returns_on_both_sides(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0", "1,2,4", 1))
    host.start(a_request("1,10", "27", 2))
    host.run("status")
    assert capsys.readouterr().out.splitlines()[-1] == (
        "pending returns: apmask 0 (held by guest g1); aqmask 27 (held by guest g2)"
    )


def test_pending_overrides(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("etc/apvfio/apvfio.toml", 'mechanism = "overrides"\n')
    host.start(a_request("0", "1-2"))
    host.run("status")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mechanism  overrides"
    assert lines[-1] == "pending returns: the driver_override of 00.0001, 00.0002 (held by guest g1)"


def test_the_description_is_what_is_printed(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("status", "--color", "never")
    with host.opened() as system:
        assert "\n".join(describe(system, look("never"))) + "\n" == capsys.readouterr().out


def test_guests_names_are_cleaned(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0", "1")._replace(guest="\x1b[2J\n"))
    host.run("status")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("guest ?[2J?") == 3


def test_a_damaged_ledger_is_an_error(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("run/apvfio/ledger.json", "{")
    assert host.run("status") == 1
    assert "/run/apvfio/ledger.json is damaged" in capsys.readouterr().err
    assert host.run("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "failure"


def test_a_host_without_the_bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = SimKernel.new()
    for module in ("vfio_ap", "zcrypt_cex4", "zcrypt", "ap"):
        kernel.unload(module)
    assert SimulatedHost(tmp_path, kernel).run("status") == 5
    assert "this host has no AP bus" in capsys.readouterr().err


def test_looking_changes_nothing(host: SimulatedHost) -> None:
    host.start(a_request("0", "1"))
    with open(host.path, encoding="utf-8") as file:
        before = file.read()
    host.run("status")
    with open(host.path, encoding="utf-8") as file:
        assert file.read() == before


@pytest.mark.parametrize(
    ("option", "tty", "variable", "colored"),
    [
        ("auto", True, "", True),
        ("auto", False, "", False),
        ("auto", True, "NO_COLOR", False),
        ("never", True, "", False),
        ("always", False, "", True),
        ("always", False, "NO_COLOR", True),
    ],
)
def test_color(option: str, tty: bool, variable: str, colored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if variable:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty)
    assert look(option).color == colored


def test_a_dumb_terminal_has_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert not look("auto").color


def test_color_reaches_the_picture(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("status", "--color", "always")
    assert "\x1b[2m" in capsys.readouterr().out
    assert host.run("status", "--color", "blue") == 2


@pytest.mark.parametrize(("encoding", "mark"), [("ascii", "."), ("latin-1", "."), ("utf-8", "·")])
def test_a_terminal_gets_only_what_it_can_show(
    host: SimulatedHost, encoding: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start(a_request("0", "1,2,4")._replace(guest="Öl→"))
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert host.run("status") == 0
    terminal.flush()
    text = raw.getvalue().decode(encoding)
    assert f"  01      {mark}    {mark}" in text
    assert {"ascii": "guest ?l?:", "latin-1": "guest Öl?:", "utf-8": "guest Öl→:"}[encoding] in text


def test_lines_go_where_they_are_sent(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(["a", "b"], sys.stderr)
    assert capsys.readouterr() == ("", "a\nb\n")


class TestBrokenPolicy:
    """A policy that cannot be used hides nothing."""

    SAID = "the policy /etc/apvfio/apvfio.toml cannot be used: "

    def test_status_is_shown_with_what_is_wrong(
        self, host: SimulatedHost, capsys: pytest.CaptureFixture[str]
    ) -> None:
        host.start(a_request("0,10", "1-2,4", 1))
        host.write("etc/apvfio/apvfio.toml", "[reserve\n")
        assert host.run("status") == 0
        shown = capsys.readouterr()
        assert " ".join(shown.out.split()).count(f"policy {self.SAID}") == 1
        assert "guest g1: adapters 0,10, domains 1-2,4" in " ".join(shown.out.split())
        assert shown.err == ""

    def test_json_has_both(self, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
        assert status(host, capsys)["policy_error"] is None
        host.start(a_request("0,10", "1-2,4", 1))
        host.write("etc/apvfio/apvfio.toml", "frobnicate = 1\n")
        found = status(host, capsys)
        assert found["policy_error"]["message"].startswith(self.SAID)
        assert [lease["guest"] for lease in found["leases"]] == ["g1"]

    def test_drawings_have_it(self, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
        host.write("etc/apvfio/apvfio.toml", "[reserve\n")
        assert host.run("status", "--svg", "-") == 0
        assert "cannot be used" in capsys.readouterr().out

# SPDX-License-Identifier: Apache-2.0
"""``apvfio log``: what happened, of whom, when, and who had a queue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.engine.stop import release_guest
from apvfio.events import audit_log
from apvfio.events.event import Event, to_line
from apvfio.model.errors import Exit
from apvfio.model.matrix import Matrix
from apvfio.view.clock import local, utc
from hosts import a_matrix, a_request, guest, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apvfio.model.request import Request

NOON = 1_790_000_000.0
BOOT = "b1"


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def event(minute: float, kind: str, n: int = 1, *, boot: str = BOOT, **more: Any) -> Event:
    """What happened to guest ``gN`` that many minutes after noon."""
    when = NOON + minute * 60
    matrix = a_matrix("0,10", "1")
    return Event(when, kind, boot, f"g{n}", guest(n), mdev(n), matrix)._replace(**more)


def at(minute: float) -> str:
    return local(NOON + minute * 60)


def kept(host: SimulatedHost, *events: Event) -> None:
    host.write(audit_log.AUDIT_LOG, "".join(map(to_line, events)))


def stop(host: SimulatedHost, n: int = 1) -> None:
    with host.opened() as system:
        release_guest(system, guest(n))


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines without their times."""
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \S", line) for line in lines)
    return [line[21:] for line in lines]


def test_a_guests_life_and_what_an_administrator_did(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0,10", "1-2"))
    stop(host)
    assert host.run("masks", "apmask=-0") == Exit.OK
    assert host.run("masks", "--persistent", "apmask=-0") == Exit.OK
    assert host.run("mechanism", "masks") == Exit.OK
    capsys.readouterr()
    assert host.run("log") == Exit.OK
    assert shown(capsys) == [
        "guest g1: start planned with 4 queues: adapters 0,10, domains 1-2, freed by domains "
        "(by adapters: 4 collateral queues); "
        "warning: the host loses 2 collateral queues: 01.0001, 01.0002; "
        "warning: the host loses 00.0001, 01.0001, 0a.0001, the last in its default domain 1 (0x1)",
        "guest g1 has 4 queues: adapters 0,10, domains 1-2, freed by domains",
        "guest g1 no longer has 4 queues: adapters 0,10, domains 1-2",
        "masks changed by hand: apmask -0",
        "masks changed by hand: apmask stored as 1-255",
        "mechanism: masks",
    ]


def test_nothing_happened_yet(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("log") == Exit.OK
    assert capsys.readouterr() == ("", "")
    assert host.run("log", "--json") == Exit.OK
    assert json.loads(capsys.readouterr().out) == []
    assert host.run("log", "--queue", "00.0001") == Exit.OK
    assert capsys.readouterr().out.split() == ["FROM", "TO", "GUEST"]


@pytest.mark.parametrize("name", ["g2", guest(2)])
def test_of_one_guest(host: SimulatedHost, capsys: pytest.CaptureFixture[str], name: str) -> None:
    host.start(a_request("0", "1"))
    host.start(a_request("10", "2", 2))
    stop(host)
    assert host.run("log", "--guest", name) == Exit.OK
    lines = shown(capsys)
    assert len(lines) == 2
    assert all(re.match("guest g2\\b", line) for line in lines)


@pytest.mark.parametrize(
    ("words", "guests"),
    [
        ([], "123"),
        (["--since", at(1)], "23"),
        (["--until", at(1)], "12"),
        (["--since", at(1), "--until", at(1)], "2"),
        (["--since", at(3)], ""),
        (["--since", at(1), "--guest", "g3"], "3"),
    ],
)
def test_between_two_times(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], words: list[str], guests: str
) -> None:
    kept(host, *(event(n - 1, "started", n) for n in (1, 2, 3)))
    assert host.run("log", *words) == Exit.OK
    assert "".join(line[7] for line in shown(capsys)) == guests


def test_who_had_a_queue_when(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    kept(
        host,
        event(0, "held", 1),
        event(1, "stopped", 1),
        event(2, "started", 2),
        event(3, "started", 3, matrix=a_matrix("1", "1")),
        event(4, "stopped", 2, boot="b2", late=True),
        event(5, "started", 4, boot="b2"),
        event(6, "changed", 4, boot="b2", matrix=a_matrix("10", "1")),
        event(7, "started", 5, boot="b2"),
    )
    for queue in ("00.0001", "00.0001".upper()):
        assert host.run("log", "--queue", queue) == Exit.OK
        assert capsys.readouterr().out.splitlines() == [
            f"{'FROM':<24}{'TO':<24}GUEST",
            f"{'<= ' + at(0):<24}{at(1):<24}g1",
            f"{at(2):<24}{'<= ' + at(4):<24}g2",
            f"{at(5):<24}{at(6):<24}g4",
            f"{at(7):<24}{'still':<24}g5",
        ]
    for words, guests in (
        (["--guest", guest(2)], ["g2"]),
        (["--since", at(5)], ["g4", "g5"]),
        (["--until", at(2)], ["g1", "g2"]),
        (["--since", at(3), "--until", at(3)], ["g2"]),
    ):
        assert host.run("log", "--queue", "00.0001", *words) == Exit.OK
        assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]] == guests


def test_json(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    kept(
        host,
        event(0, "started", warnings=("it is dangerous",), collateral=("01.0001",)),
        event(1, "refused", 2, matrix=Matrix(), text="no"),
    )
    assert host.run("log", "--json") == Exit.OK
    started, refused = json.loads(capsys.readouterr().out)
    assert started == {
        "time": utc(NOON),
        "kind": "started",
        "boot": BOOT,
        "guest": "g1",
        "uuid": guest(1),
        "mdev": mdev(1),
        "freed_by": "",
        "text": "",
        "collateral": ["01.0001"],
        "warnings": ["it is dangerous"],
        "late": False,
        "counts": {},
        "adapters": "0,10",
        "domains": "1",
        "control_domains": "",
        "message": "guest g1 has 2 queues: adapters 0,10, domains 1; warning: it is dangerous",
    }
    assert (refused["text"], refused["message"]) == ("no", "guest g2 was not started: no")
    assert host.run("log", "--json", "--queue", "0a.0001") == Exit.OK
    (span,) = json.loads(capsys.readouterr().out)
    assert span == {
        "guest": "g1",
        "uuid": guest(1),
        "mdev": mdev(1),
        "boot": BOOT,
        "begin": utc(NOON),
        "begun_before": False,
        "end": None,
        "ended_before": False,
    }


def test_damaged_lines_are_told_of_and_passed_over(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(host, event(0, "started"))
    for number, count in enumerate(("1 line", "2 lines"), 1):
        host.write(audit_log.AUDIT_LOG, f"{{\n{host.read(audit_log.AUDIT_LOG)}")
        assert host.run("log") == Exit.OK
        out, err = capsys.readouterr()
        assert len(out.splitlines()) == 1
        assert err == f"apvfio: warning: {count} of /var/lib/apvfio/audit.jsonl cannot be understood\n", (
            number
        )


def test_a_name_is_no_command_to_the_terminal(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0", "1")._replace(guest="\x1b[2J\n\u202ex" + "y" * 500))
    for words in ([], ["--queue", "00.0001"]):
        assert host.run("log", *words) == Exit.OK
        out, err = capsys.readouterr()
        assert all(line.isprintable() for line in out.splitlines())
        assert err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--follow", "--json"], "--follow and --json exclude each other. Choose one of them."),
        (["--follow", "--queue", "00.0001"], "--follow and --queue exclude each other. Choose one of them."),
        (["--queue", "0"], "argument --queue: '0' is not a queue: write it as lszcrypt does, 0a.001b"),
        (["--since", "soon"], "argument --since: 'soon' is not a time"),
        (["--until", "2026-13-01"], "argument --until: '2026-13-01' is not a time"),
        (["db1"], "unrecognized arguments: db1. See 'apvfio log --help'"),
    ],
)
def test_usage(host: SimulatedHost, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert host.run("log", *words) == Exit.USAGE
    out, err = capsys.readouterr()
    assert says in (
        json.loads(out)["error"]["message"] + " " + json.loads(out)["error"]["remedy"] if out else err
    )


class Followed:
    """``apvfio log --follow`` as a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()[21:].rstrip("\n")

    def end(self) -> tuple[int, str]:
        """Ctrl-C; its exit code, and what else it printed."""
        assert self._process.stdout
        assert self._process.stderr
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(10), self._process.stdout.read() + self._process.stderr.read()


@contextmanager
def following(host: SimulatedHost, *words: str) -> Iterator[Followed]:
    command = [sys.executable, "-m", "apvfio", "--sim", host.path, "log", "--follow", *words]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Followed(process)
        finally:
            process.kill()


def begun(host: SimulatedHost, request: Request) -> None:
    host.start(request)
    stop(host, int(request.guest[1:]))


def test_it_follows_what_happens(host: SimulatedHost) -> None:
    begun(host, a_request("0", "1"))
    with following(host) as followed:
        assert [followed.line().split(" queue")[0] for _ in range(3)] == [
            "guest g1: start planned with 1", "guest g1 has 1", "guest g1 no longer has 1",
        ]  # fmt: skip
        host.start(a_request("10", "2", 2))
        assert followed.line().startswith("guest g2: start planned with")
        assert followed.line().startswith("guest g2 has")
        stop(host, 2)
        assert followed.line().startswith("guest g2 no longer has")
        assert followed.end() == (0, "")


def test_it_follows_one_guest_from_the_first_event_on_and_through_a_new_file(host: SimulatedHost) -> None:
    with following(host, "--guest", "g2") as followed:
        begun(host, a_request("0", "1"))
        host.start(a_request("0", "1", 2))
        assert [followed.line()[:14] for _ in range(2)] == ["guest g2: star", "guest g2 has 1"]
        with host.opened() as system:
            system.files.append(audit_log.AUDIT_LOG, "x" * (1 << 20) + "\n")
        stop(host, 2)
        begun(host, a_request("0", "1"))
        host.start(a_request("10", "1", 2))
        # A new file begins with what is held, which is no news, but is what happened since.
        found = followed.line()
        if found.startswith("guest g2 still has"):
            found = followed.line()
        assert found.startswith("guest g2 no longer has")
        assert followed.line().startswith("guest g2: start planned with")
        assert followed.line().startswith("guest g2 has")
        assert host.read(f"{audit_log.AUDIT_LOG}.1") is not None
        assert followed.end() == (0, "")

# SPDX-License-Identifier: Apache-2.0
"""``--quiet`` prints errors only, ``--verbose`` each write as it is made; only problems have colors."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.if_state import on_premise
from apvfio.cli.main import main
from apvfio.cli.verbosity import announced, console
from apvfio.model.errors import Exit
from apvfio.store.system import RealSystem
from command_line import PARSERS, options
from domain_xml import domain
from hosts import a_matrix, a_request, mdev
from libvirt_test_driver import URI, Driver, driver
from simulated_host import SimulatedHost
from terminals import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RED, YELLOW = "\x1b[31m", "\x1b[33m"
CHANGING = {
    *("masks", "mechanism", "reconcile", "release", "drain", "migrate", "guest set", "guest clear"),
    *("define", "undefine", "keys forget", "install", "uninstall", "cluster publish"),
}
WITHOUT_WRITES = {"define", "undefine", "keys forget", "install", "uninstall", "cluster publish"}
"""Those that write nothing to the kernel, or whose steps are all that they print."""


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """Guest g1 runs; its definition is in a file."""
    made = SimulatedHost(tmp_path)
    made.start(a_request("0", "1-2"))
    (tmp_path / "db1.xml").write_bytes(domain())
    return made


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        made.define("db1", 1, a_matrix("1", "1"), mdev(4))
        yield made


def test_commands_that_change_something_have_them_and_no_other() -> None:
    assert {name for name in PARSERS if "--quiet" in options(name)} == CHANGING
    assert {name for name in PARSERS if "--verbose" in options(name)} == CHANGING - WITHOUT_WRITES
    for name in PARSERS:
        assert ("-q" in options(name)) == (name in CHANGING)
        assert ("-v" in options(name)) == (name in CHANGING - WITHOUT_WRITES)


@pytest.mark.parametrize(
    "words",
    [
        ("masks", "apmask=-1"),
        ("masks", "-a", "aqmask=-27"),
        ("reconcile",),
        ("release", "g1"),
        ("keys", "forget", "--all"),
        ("define", "--xml", "db1.xml"),
        ("undefine", "--xml", "db1.xml"),
        ("drain", "--adapter", "1", "--yes", "-c", URI),
        ("guest", "set", "db1", "--adapters", "1", "--domains", "2", "-c", URI),
        ("guest", "clear", "db1", "-c", URI),
    ],
)
def test_quiet_prints_nothing_and_does_the_same(
    words: tuple[str, ...],
    host: SimulatedHost,
    libvirtd: Driver,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert host.run(*words, "--quiet") == Exit.OK
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")
    host.run(*words)
    again = capsys.readouterr()
    assert (again.out + again.err) != ""


def test_quiet_changes_the_host(host: SimulatedHost) -> None:
    assert host.run("masks", "-q", "-a", "apmask=-1") == Exit.OK
    with host.opened() as system:
        assert system.sysfs.read("bus/ap/apmask").startswith("0x3")


def test_quiet_prints_errors(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("release", "g9", "-q") == Exit.REQUEST
    told = capsys.readouterr()
    assert (told.out, told.err.startswith("apvfio: no guest g9 holds queues.")) == ("", True)
    assert host.run("masks", "-q", "apmask=-0-255") == Exit.USAGE
    assert "asks for confirmation" in capsys.readouterr().err


def test_a_drain_that_is_not_complete_is_told_in_any_case(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    host.make_mdev(mdev(9), a_matrix("0", "4"))
    assert host.run("drain", "--domain", "4", "--yes", "-q", "-c", URI) == Exit.CONFLICT
    told = capsys.readouterr()
    assert told.out == ""
    assert f"mediated device {mdev(9)} stays on" in told.err


def test_a_question_is_asked_all_the_same(host: SimulatedHost) -> None:
    with terminal("--sim", host.path, "masks", "-q", "apmask=-0-255") as screen:
        assert screen.until(lambda text: "[y/N]" in text).startswith("No queue would stay with the host.")
        screen.type("y\r")
        assert screen.end() == Exit.OK


@pytest.mark.parametrize("words", [("--quiet", "--json"), ("-q", "-v")])
def test_what_excludes_each_other(
    words: tuple[str, ...], host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("reconcile", *words) == Exit.USAGE
    told = capsys.readouterr()
    assert "exclude each other" in told.out + told.err or "not allowed with" in told.err


@pytest.mark.parametrize(
    ("words", "writes"),
    [
        (("masks", "-a", "apmask=-1"), ["echo -1 > /sys/bus/ap/apmask"]),
        (("release", "g1"), [f"echo 1 > /sys/devices/vfio_ap/matrix/{mdev(1)}/remove", "echo +0 >"]),
    ],
)
def test_verbose_prints_each_write(
    words: tuple[str, ...], writes: list[str], host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run(*words, "--verbose") == Exit.OK
    found = [line for line in capsys.readouterr().err.splitlines() if line.startswith("apvfio: echo ")]
    assert len(found) == len(writes)
    assert all(write in line for write, line in zip(writes, found))


def test_verbose_says_what_is_waited_for_before_it_is(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("masks", "-v", "-a", "apmask=-1") == Exit.OK
    said = capsys.readouterr().err.splitlines()
    lock, *_, wait, write = said
    assert lock == "apvfio: taking the lock"
    assert wait.startswith("apvfio: waiting for 4 queues to finish the reset")
    assert write == "apvfio: echo -1 > /sys/bus/ap/apmask"


def test_a_dry_run_writes_nothing(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("masks", "-v", "-n", "apmask=-1") == Exit.OK
    assert "apvfio: echo" not in capsys.readouterr().err


def coloured(host: SimulatedHost, *words: str, **variables: str) -> str:
    """What the command prints to a terminal."""
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "", **variables}
    command = shlex.join([sys.executable, "-m", "apvfio", "--sim", host.path, *words])
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    return done.stdout


def test_errors_and_warnings_have_colors_on_a_terminal(host: SimulatedHost) -> None:
    assert f"{RED}apvfio:\x1b[0m no guest g9" in coloured(host, "release", "g9")
    assert "\x1b[" not in coloured(host, "release", "g9", NO_COLOR="1")
    assert "\x1b[" not in coloured(host, "release", "g9", TERM="dumb")
    assert f"{YELLOW}apvfio: warning:\x1b[0m no apmask is stored" in coloured(
        host, "masks", "-p", "apmask=-1"
    )


@pytest.mark.parametrize("words", [("status",), ("doctor", "-c", URI)])
def test_problems_have_a_color_if_it_is_wanted(
    words: tuple[str, ...], host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write("etc/apvfio/apvfio.toml", "[reserve\n")
    capsys.readouterr()
    host.run(*words, "--color=always")
    told = capsys.readouterr().out
    assert any(RED in line and "p" in line for line in told.splitlines())
    host.run(*words)
    assert RED not in capsys.readouterr().out
    host.run(*words, "--color=always", "--json")
    assert "\x1b" not in capsys.readouterr().out


def test_guests_that_have_lost_something_are_red(
    host: SimulatedHost, libvirtd: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    libvirtd.define("two", 2, a_matrix("0", "1"), mdev(2))
    host.run("guest", "list", "--color=always", "-c", URI)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("two")]
    assert f"{YELLOW}00.0001 is held by guest g1\x1b[0m" in row
    host.run("status", "two", "--color=always", "-c", URI)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "next start" in line]
    assert row.startswith(f"{RED}next start")


def test_the_console_is_standard_error_without_quiet() -> None:

    assert console(argparse.Namespace()) is sys.stderr
    assert main(["masks", "-q", "apmask"]) == Exit.USAGE


def test_a_premise_keeps_the_announcement(tmp_path: Path) -> None:

    system = RealSystem(str(tmp_path))
    system.sysfs = announced(system.sysfs)
    assert on_premise(system, "as it was", lambda _: "as it was").sysfs is system.sysfs

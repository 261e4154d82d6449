# SPDX-License-Identifier: Apache-2.0
"""``apvfio status --watch``, a real process: in a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.watch import fingerprint
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import LEDGER
from hosts import a_request, guest, mdev
from simulated_host import SimulatedHost
from terminals import terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELD = "0a  10  a    a"
EVERY = "0.1"


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def stop(host: SimulatedHost) -> None:
    with host.opened() as system:
        release_guest(system, guest(1))


def test_a_start_is_followed_live_and_nothing_is_drawn_in_between(host: SimulatedHost) -> None:
    with terminal("--sim", host.path, "status", "--watch", EVERY, lines=24) as shown:
        before = shown.until(lambda screen: "pending returns: nothing" in screen)
        assert re.match(
            r"changed at \d\d:\d\d:\d\d, checked every 0.1 s; Ctrl-C ends\n\nmechanism  masks\n", before
        )
        assert shown.settle(1) == ""
        host.start(a_request("0,10", "1,2,4"))
        assert "pending returns: apmask 0,10" in shown.until(lambda screen: HELD in screen)
        stop(host)
        after = shown.until(lambda screen: "pending returns: nothing" in screen)
        # Nothing of the longer picture is left.
        assert after.split("\n")[1:] == before.split("\n")[1:]
        assert shown.screen.erased == 0


def test_ctrl_c_ends_it_and_the_terminal_is_as_it_was(host: SimulatedHost) -> None:
    with terminal("--sim", host.path, "status", "--watch") as shown:
        shown.until(lambda screen: "pending returns" in screen)
        shown.type("\x03")
        assert shown.end() == 0
        assert str(shown.screen).endswith("pending returns: nothing^C")
        assert shown.screen.column == 0
        assert termios.tcgetattr(shown.fd) == shown.modes
        assert not re.search(r"\x1b\[\?", shown.sent)


def test_a_terminal_that_changes_its_size_gets_another_picture(host: SimulatedHost) -> None:
    host.start(a_request("0,10", "1,2,4"))
    with terminal("--sim", host.path, "status", "--watch", "60") as shown:
        shown.until(lambda screen: HELD in screen)
        shown.resize(22, 60)
        shown.until(lambda screen: "0a  10 aaa" in screen)
        shown.resize(80, 9)
        narrow = shown.until(lambda screen: "a taller window shows them" in screen)
        assert narrow.split("\n")[-1] == "... 12 more lines: a taller window shows them"


def test_no_color_and_a_terminal_without_utf8(host: SimulatedHost) -> None:
    host.start(a_request("0,10", "1,2,4"))
    with terminal("--sim", host.path, "status") as shown:
        assert shown.end() == 0
        assert "\x1b[36ma\x1b[0m" in shown.sent
        assert "○" in shown.sent
    with terminal(
        "--sim", host.path, "status", NO_COLOR="1", LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    ) as shown:
        assert shown.end() == 0
        assert shown.sent.isascii()
        assert "\x1b" not in shown.sent
        assert "00      a    a    a    o" in shown.sent


@pytest.mark.parametrize("columns", [20, 40, 80, 100, 200])
def test_no_terminal_has_to_break_a_line(tmp_path: Path, columns: int) -> None:
    """The screen that the tests have fails on a line that is too wide."""
    kernel = SimKernel.new(adapters=dict.fromkeys(range(16), "cca"), domains=IdSet(range(85)))
    host = SimulatedHost(tmp_path, kernel)
    host.start(a_request("3", "0-84")._replace(guest="a-name-without-any-blank-" * 4))
    host.start(a_request("4,15", "0-84", 2)._replace(guest="\x1b[2J  6 queues\n漢字"))
    with terminal("--sim", host.path, "status", columns=columns, lines=400) as shown:
        assert shown.end() == 0
        assert "guest ?[2J" in str(shown.screen)
        assert sum(row.startswith("  0f  15 ") for row in str(shown.screen).split("\n")) == str(
            shown.screen
        ).count("adapter  ")


def test_a_dumb_terminal_gets_blocks(host: SimulatedHost) -> None:
    with terminal("--sim", host.path, "status", "--watch", EVERY, TERM="dumb") as shown:
        shown.until(lambda screen: "pending returns" in screen)
        assert re.search(r"^== \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", str(shown.screen), re.MULTILINE)
        assert "\x1b" not in shown.sent


@contextmanager
def watching(host: SimulatedHost, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "apvfio", *words, "status", "--watch", EVERY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_pipe_gets_a_block_for_each_change(host: SimulatedHost) -> None:
    with watching(host, "--sim", host.path) as process:
        assert process.stdout
        blocks = []
        for _ in range(2):
            lines = list(iter(process.stdout.readline, "\n"))
            while not lines[-1].startswith("pending returns"):
                lines += iter(process.stdout.readline, "\n")
            blocks.append("".join(lines))
            host.start(a_request("0,10", "1,2,4"))
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert [block.startswith("== ") for block in blocks] == [True, True]
        assert [HELD in block for block in blocks] == [False, True]


def test_json_is_one_line_for_each_change_and_an_error_is_one(host: SimulatedHost) -> None:
    command = [sys.executable, "-m", "apvfio", "--sim", host.path, "status", "--json", "--watch", EVERY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            documents = [json.loads(process.stdout.readline())]
            host.start(a_request("0", "1"))
            documents.append(json.loads(process.stdout.readline()))
            good = host.read(LEDGER)
            host.write(LEDGER, "{")
            documents.append(json.loads(process.stdout.readline()))
            host.write(LEDGER, good or "")
            documents.append(json.loads(process.stdout.readline()))
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert [len(document.get("leases", [])) for document in documents] == [0, 1, 0, 1]
    assert documents[2]["error"]["kind"] == "failure"
    assert documents[1] == documents[3]


@pytest.mark.parametrize(("form", "blocks"), [(["--json"], 4), ([], 1)])
def test_json_is_repeated_while_nothing_changes(host: SimulatedHost, form: list[str], blocks: int) -> None:
    """So its reader knows that it still watches; for a person there would only be more of the same."""
    script = "import sys; from apvfio.cli import main, watch; watch._ALIVE = 0.2; main.main(sys.argv[1:])"
    words = [sys.executable, "-c", script, "--sim", host.path, "status", "--watch", EVERY, *form]
    with subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        said = b""
        try:
            while select.select([process.stdout], [], [], 1.5)[0] and said.count(b'{"mechanism"') < blocks:
                said += process.stdout.read(1 << 20) or b""
        finally:
            process.kill()
    found = said.splitlines() if form else said.split(b"== 2")[1:]
    assert len(found[:4]) == blocks
    assert len(set(found)) == 1


def _is_open(pid: int, fd: int) -> bool:
    return os.path.exists(f"/proc/{pid}/fd/{fd}")


def test_what_is_wrong_from_the_start_is_the_commands_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = SimulatedHost(tmp_path)
    host.write(LEDGER, "{")
    assert host.run("status", "--watch") == 1
    assert "ledger.json is damaged" in capsys.readouterr().err
    for seconds in ("0", "-1", "x", "nan", "4000"):
        assert host.run("status", "--watch", seconds) == 2


def test_a_reader_that_leaves_ends_it(host: SimulatedHost) -> None:
    with watching(host, "--sim", host.path) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        host.start(a_request("0", "1"))
        assert process.wait(10) == 1
        assert process.stderr
        assert process.stderr.read() == ""


def test_looking_at_a_simulated_host_does_not_keep_others_from_it(host: SimulatedHost) -> None:
    """Whoever has its file open has it locked."""
    with watching(host, "--sim", host.path) as process:
        assert process.stdout
        process.stdout.readline()
        inode = os.stat(host.path).st_ino
        for _ in range(40):
            opened = [
                os.stat(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 1, 2, 3, 4) if _is_open(process.pid, fd)
            ]
            assert inode not in [found.st_ino for found in opened]
            time.sleep(0.02)
        assert process.poll() is None


def test_a_glance_sees_every_change_of_hands(host: SimulatedHost) -> None:
    probes = [Apqn(0, 1)]
    with host.opened() as system:

        def seen() -> tuple[object, ...]:
            return fingerprint(system, probes)

        glances = [seen(), seen()]
        assert glances[0] == glances[1]
        start_guest(system, a_request("0,10", "1,2,4"))
        glances.append(seen())
        system.kernel.attach_guest(mdev(1), "g1")
        glances.append(seen())
        system.sysfs.write("bus/ap/drivers/cex4queue/unbind", "01.0001")
        glances.append(seen())
        system.files.write("etc/apvfio/apvfio.toml", '[reserve]\nadapters = "1"\n')
        glances.append(seen())
        release_guest(system, guest(1), force=True)
        glances.append(seen())
    assert len(set(map(str, glances))) == len(glances) - 1


def test_a_glance_needs_few_reads_however_many_queues_there_are(tmp_path: Path) -> None:
    kernel = SimKernel.new(adapters=dict.fromkeys(range(16), "cca"), domains=IdSet(range(85)))
    reads = []
    with SimulatedHost(tmp_path, kernel).opened() as system:

        class Counted:
            def read(self, path: str) -> str:
                reads.append(path)
                return system.kernel.read(path)

            def list(self, path: str) -> list[str]:
                reads.append(path)
                return system.kernel.list(path)

        system.sysfs = Counted()  # type: ignore[assignment]
        fingerprint(system, [Apqn(0, 1)])
    assert len(reads) < 10

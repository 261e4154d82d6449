# SPDX-License-Identifier: Apache-2.0
"""Standard input, output and error that are full, closed or nobody's, SIGINT at any moment, and no memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.cli.standard_streams import LEFT, OutputError
from apvfio.model.errors import Exit, unexpected
from domain_xml import domain
from hosts import a_request
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60
EXEC = 'exec "$@"'
COMMANDS = [
    *("status", "status --json", "status --svg -", "status --watch", "queues", "doctor", "doctor --json"),
    *("log", "metrics", "plan --xml DOMAIN", "plan --json --xml DOMAIN"),
    *("masks", "masks --active apmask=-1", "mechanism masks", "reconcile", "reconcile --json", "release g1"),
    *("release g1 --json", "--help", "--version", "guest --help"),
]
"""What prints something where all is well."""
WRONG = ["nonsense", "release nobody", "plan --xml /nowhere", "release nobody --json"]


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def run(
    host: SimulatedHost,
    line: str,
    shell: str = "",
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a command; ``shell`` redirects its channels further."""
    path = os.path.join(os.path.dirname(host.path), "domain.xml")
    with open(path, "wb") as file:
        file.write(domain('<ap:matrix adapters="0" domains="1"/>'))
    words = [path if word == "DOMAIN" else word for word in line.split()]
    return subprocess.run(
        ["sh", "-c", f"{EXEC} {shell}", "sh", sys.executable, "-m", "apvfio", *words],
        env={**os.environ, "APVFIO_SIM": host.path},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def require_sentence(text: str, reason: str) -> None:
    """That ``text`` is the one sentence about standard output."""
    assert text == (
        f"apvfio: standard output cannot be written: {reason}. "
        "Send it elsewhere; 'apvfio status' shows what the command has done.\n"
    )


@pytest.mark.parametrize("line", COMMANDS)
def test_output_that_fails_is_one_sentence(host: SimulatedHost, line: str) -> None:
    if "release" in line or line == "log":
        host.start(a_request("0", "1"))
    full = run(host, line, ">/dev/full")
    assert full.returncode == Exit.FAILURE
    *others, last = full.stderr.splitlines(keepends=True)
    assert all("the host loses" in other for other in others)
    require_sentence(last, "No space left on device")


@pytest.mark.parametrize("line", ["status", "status --json", "--help", "reconcile"])
def test_a_closed_channel(host: SimulatedHost, line: str) -> None:
    closed = run(host, line, ">&-")
    assert closed.returncode == Exit.FAILURE
    require_sentence(closed.stderr, "Bad file descriptor")
    for shell in ("2>&-", "2>/dev/full", "<&-", "<&- 2>&-"):
        done = run(host, line, shell)
        assert (done.returncode, done.stderr) == (Exit.OK, ""), shell
        assert done.stdout
    for shell in (">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"):
        assert run(host, line, shell).returncode == Exit.FAILURE, shell


@pytest.mark.parametrize("line", WRONG)
def test_an_error_has_its_exit_code_wherever_it_goes(host: SimulatedHost, line: str) -> None:
    code = run(host, line).returncode
    assert code not in (Exit.OK, Exit.FAILURE)
    for shell in (">/dev/full", ">&-", "2>&-", "2>/dev/full", "<&- >&- 2>&-"):
        done = run(host, line, shell)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") <= 1
    # Where JSON cannot be printed, the sentence is.
    assert run(host, line, ">/dev/full").stderr.startswith("apvfio: ")


@pytest.mark.parametrize("line", ["status", "status --json", "queues", "--help", "metrics"])
def test_a_reader_that_has_left_is_told_nothing(host: SimulatedHost, line: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = run(host, line, stdout=theirs)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (Exit.FAILURE, "")
    here, there = socket.socketpair()
    here.close()
    done = run(host, line, stdout=there.fileno())
    there.close()
    assert (done.returncode, done.stderr) == (Exit.FAILURE, "")


def test_a_terminal_that_has_gone(host: SimulatedHost) -> None:
    master, slave = os.openpty()
    os.close(master)
    done = run(host, "status", stdout=slave)
    assert done.returncode == Exit.FAILURE
    require_sentence(done.stderr, "Input/output error")
    assert run(host, "status", stdout=slave, stderr=slave).returncode == Exit.FAILURE
    os.close(slave)


def test_what_fails_to_print_has_been_done_or_not(host: SimulatedHost) -> None:
    host.start(a_request("0", "1"))
    assert json.loads(run(host, "status --json").stdout)["leases"]
    assert run(host, "release g1", ">/dev/full").returncode == Exit.FAILURE
    assert not json.loads(run(host, "status --json").stdout)["leases"]


def test_each_line_is_seen_at_once(host: SimulatedHost) -> None:
    """Without PYTHONUNBUFFERED, into a pipe: what comes is read while the command goes on."""
    env = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    words = [sys.executable, "-m", "apvfio", "--sim", host.path, "log", "--follow"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        try:
            host.start(a_request("0", "1"))
            assert "guest g1: start planned with" in process.stdout.readline()
            assert "guest g1 has" in process.stdout.readline()
        finally:
            process.kill()


# SIGINT arrives as the n-th module of apvfio is looked for; the third is the entry.
STRUCK = """\
import os, signal, sys
class Finder:
    left = int(sys.argv.pop(1))
    def find_spec(self, name, *_):
        self.left -= name.startswith("apvfio")
        if not self.left:
            self.left = -1
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from apvfio.cli.entry import main
main()
"""


@pytest.mark.parametrize("nth", [4, 5, 6, 10, 30, 60, 90])
def test_sigint_while_modules_are_loaded(host: SimulatedHost, nth: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRUCK, str(nth), "--sim", host.path, "status"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (Exit.INTERRUPTED, b"", b"")


def test_sigint_that_the_parent_ignores_is_ignored(host: SimulatedHost) -> None:
    words = [sys.executable, "-c", STRUCK, "30", "--sim", host.path, "status"]
    done = subprocess.run(
        ["sh", "-c", f"trap '' INT; {EXEC}", "sh", *words],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (Exit.OK, b"")
    assert done.stdout


def with_memory(kilobytes: int, host: SimulatedHost, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Python with so much address space."""
    return subprocess.run(
        ["sh", "-c", f"ulimit -v {kilobytes}; {EXEC}", "sh", sys.executable, "-S", *words],
        env={"APVFIO_SIM": host.path, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("more", [2_000, 3_000, 4_000, 5_000])
def test_no_memory(host: SimulatedHost, more: int) -> None:
    """A little more than this Python takes to run a module that does nothing."""
    nothing = next(
        n for n in range(5_000, 60_000, 500) if not with_memory(n, host, "-c", "import runpy").returncode
    )
    done = with_memory(nothing + more, host, "-m", "apvfio", "status")
    assert done.returncode == Exit.HOST
    assert done.stderr.decode().startswith("apvfio: apvfio ran out of memory.")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MemoryError(), Exit.HOST, "apvfio ran out of memory."),
        (OSError(12, "Cannot allocate memory"), Exit.HOST, "apvfio ran out of memory."),
        (RecursionError("maximum"), Exit.REQUEST, "the input is nested too deeply."),
        (ValueError("x"), Exit.FAILURE, "unexpected ValueError: x."),
        (ImportError("no x"), Exit.FAILURE, "apvfio's modules do not fit together: no x."),
    ],
)
def test_an_error_that_nobody_expects(
    error: Exception,
    code: int,
    sentence: str,
    host: SimulatedHost,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("apvfio.cli.status.read_status", fails)
    assert host.run("status") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"apvfio: {sentence} ")
    assert err.count("\n") == 1
    assert unexpected(error).remedy


def test_sigterm_and_sighup_end_it_at_once(host: SimulatedHost) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        words = [sys.executable, "-m", "apvfio", "--sim", host.path, "status", "--watch"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (-number, b"")


def test_in_one_process_an_output_error_is_the_commands(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("standard output is full.")

    monkeypatch.setattr("apvfio.cli.host_options.print_json", full)
    assert main(["--sim", host.path, "status", "--json"]) == Exit.FAILURE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "apvfio: standard output is full.\n"
    assert BrokenPipeError in LEFT

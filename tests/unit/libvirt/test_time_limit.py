# SPDX-License-Identifier: Apache-2.0
"""A libvirt daemon that takes connections and never answers: every command ends in time, and by SIGINT."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.libvirt.guests import PATIENCE
from apvfio.libvirt.time_limit import bounded
from apvfio.migration.places import EXIT_CODES, UNCLEAR
from apvfio.model.errors import Exit
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS = (
    ("guest", "list"),
    ("guest", "show", "db1"),
    ("guest", "set", "db1", "--adapters", "0", "--domains", "1"),
    ("guest", "clear", "db1"),
    ("plan", "db1"),
    ("plan", "--all"),
    ("define", "db1"),
    ("migrate", "db1", "qemu+ssh://other/system"),
)


class Frozen:
    """A daemon's socket on which nobody answers."""

    def __init__(self, directory: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(directory / "libvirt.sock"))
        self.socket.listen(64)
        self.socket.settimeout(60)  # for a command that ends before it asks
        self.uri = f"qemu+unix:///system?socket={directory}/libvirt.sock"
        self.path = SimulatedHost(directory).path

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Run apvfio, asking this daemon."""
        place = [] if words[0] == "migrate" else ["--sim", self.path]
        return subprocess.Popen(
            [sys.executable, "-m", "apvfio", *place, *words, "--connect", self.uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Frozen]:
    made = Frozen(tmp_path)
    yield made
    made.socket.close()


def test_every_command_says_so_in_time(frozen: Frozen) -> None:
    began = time.monotonic()
    running = [frozen.start(*words) for words in COMMANDS]
    doctor = frozen.start("doctor", "db1", "--json")
    for words, process in zip(COMMANDS, running):
        out, err = process.communicate(timeout=60)
        code = EXIT_CODES[UNCLEAR] if "migrate" in words else Exit.HOST
        assert (process.returncode, out) == (code, ""), (words, out, err)
        (line,) = err.splitlines()
        assert line.startswith("apvfio: libvirt at qemu+unix:///system?socket="), words
        assert " does not answer: no answer within 10 s. " in line, words
    # The doctor goes on with its other checks.
    checks = {c["id"]: c for c in json.loads(doctor.communicate(timeout=60)[0])["checks"]}
    assert time.monotonic() - began < PATIENCE + 30  # they share the processors
    assert doctor.returncode == Exit.HOST
    assert checks["guest"]["state"] == "problem"
    assert "no answer within 10 s" in checks["guest"]["message"]
    assert [c for c in checks.values() if c["state"] == "ok"]


@pytest.mark.parametrize("words", [*COMMANDS, ("doctor",)], ids=" ".join)
def test_sigint_ends_the_wait(frozen: Frozen, words: tuple[str, ...]) -> None:
    process = frozen.start(*words)
    connection, _ = frozen.socket.accept()  # it has asked
    with connection:
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (Exit.INTERRUPTED, "", "")
    assert time.monotonic() - began < 3


def test_a_bounded_call_gives_what_it_returns_or_raises() -> None:
    assert bounded(lambda: 5, 1.0) == 5
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, None)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        bounded(lambda: time.sleep(10), 0.05)


def test_a_change_that_is_interrupted_has_a_moment_to_end() -> None:
    done: list[str] = []

    def change() -> None:
        time.sleep(0.3)
        done.append("changed")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for changing, there in ((True, ["changed"]), (False, [])):
            done.clear()
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                bounded(change, 10, changing=changing)
            assert done == there
            time.sleep(0.4)
    finally:
        signal.signal(signal.SIGINT, before)

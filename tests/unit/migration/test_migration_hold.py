# SPDX-License-Identifier: Apache-2.0
"""The process at the destination that holds masks and overrides still, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.migration import hold as hold_module
from apvfio.migration.budget import Budget
from apvfio.migration.hold import Hold, await_end
from apvfio.migration.hosts import OtherHost
from apvfio.model.errors import ConflictError, HostError

if TYPE_CHECKING:
    from pathlib import Path

READS_ON = "import os\nwhile os.read(0, 100): pass\n"
LETTER = "text = b''\nimport os\nwhile not text.endswith(bytes(1)): text += os.read(0, 1)\n"


def program(tmp_path: Path, text: str) -> list[str]:
    """The words that run that Python program."""
    path = tmp_path / "other.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def held(tmp_path: Path, text: str) -> tuple[OtherHost, Hold]:
    other = OtherHost(program(tmp_path, text), Budget(60))
    return other, other.hold(b"<domain/>")


def test_it_lives_until_it_is_let_go(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = (
        f"{LETTER}print('Welcome!')\nprint('{{\"mdev\": 1}}', flush=True)\n"
        f"{READS_ON}open({str(mark)!r}, 'w').write(text.decode())\nprint('{{\"expected\": true}}')\n"
    )
    other, hold = held(tmp_path, text)
    assert not mark.exists()
    assert other.let_go(hold)
    assert mark.read_text() == "<domain/>\0"
    assert hold.end(0) == 0  # twice does no harm


def test_a_cut_connection_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that it is cut; who is still there is heard of now and then."""
    monkeypatch.setattr(hold_module, "_BEAT", 0.1)
    mark = tmp_path / "mark"
    text = (
        "from apvfio.migration.hold import await_end\nprint('{}', flush=True)\nawait_end(0, 2)\n"
        f"open({str(mark)!r}, 'w')\n"
    )
    _, hold = held(tmp_path, text)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        hold.beat()
        time.sleep(0.05)
    assert not mark.exists()
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark.exists()
    hold.beat()  # nobody hears it, which is no harm
    assert hold.end(30) == 0


def test_an_end_is_awaited() -> None:
    told, tell = os.pipe()
    os.write(tell, b"...")
    begun = time.monotonic()
    await_end(told, 0.3)
    assert 0.3 <= time.monotonic() - begun < 20
    os.close(tell)
    await_end(told, 1000)
    os.close(told)
    await_end(told, 1000)


def test_whether_it_still_waits(tmp_path: Path) -> None:
    other, hold = held(tmp_path, f"print('{{\"expected\": false}}', flush=True)\n{READS_ON}")
    assert not other.let_go(hold)


def test_it_ends_when_this_process_has_ended(tmp_path: Path) -> None:
    """Its standard input ends with the last process that could write to it."""
    mark = tmp_path / "mark"
    words = program(tmp_path, f"print('{{}}', flush=True)\n{READS_ON}open({str(mark)!r}, 'w')\n")
    parent = (
        "import os, sys, tempfile\nfrom apvfio.migration.hold import Hold\n"
        f"hold = Hold({words!r}, b'', {{}}, tempfile.TemporaryFile())\n"
        "assert hold.answer(30) == {}\nos.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", parent], check=False).returncode == -9
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert mark.exists()


def test_the_destination_refuses(tmp_path: Path) -> None:
    refusal = '{"error": {"kind": "conflict", "message": "no.", "remedy": "Wait.", "queues": ["0a.0001"]}}'
    with pytest.raises(ConflictError, match=r"the destination refuses: no\.") as caught:
        held(tmp_path, f"import sys\n{LETTER}print('''{{\n{refusal[1:]}''')\nsys.exit(3)\n")
    assert caught.value.queues == ((10, 1),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import sys\nsys.exit('ssh: no route')", "exit code 1: ssh: no route"),
        (
            "import sys\nsys.stderr.write('invalid choice: incoming')\nsys.exit(2)",
            "does not know the command",
        ),
        ("print(7)", "exit code 0: no answer"),
        ("print('{}{}')", "exit code 0: no answer"),
    ],
)
def test_it_is_no_apvfio(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(HostError, match=says):
        held(tmp_path, text)


def test_it_is_not_installed() -> None:
    with pytest.raises(HostError, match="no-such-program is not installed"):
        OtherHost(["no-such-program"], Budget(60)).hold(b"")


def test_it_is_silent(tmp_path: Path) -> None:
    other = OtherHost(program(tmp_path, READS_ON), Budget(1.5))
    with pytest.raises(HostError, match="did not answer within 1 s"):
        other.hold(b"")


def test_it_does_not_let_go(tmp_path: Path) -> None:
    text = "import signal\nprint('{}', flush=True)\nsignal.pause()\n"
    words = program(tmp_path, text)
    other = OtherHost(words, Budget(60))
    hold = other.hold(b"")
    silent = OtherHost(words, Budget(0))
    with pytest.raises(HostError, match="it did not end in time"):
        silent.let_go(hold)


def test_its_end_fails(tmp_path: Path) -> None:
    """What went wrong as it let go is told, though it had answered before."""
    error = '{"error": {"kind": "host", "message": "the lock.", "remedy": ""}}'
    text = f"import sys\nprint('{{}}', flush=True)\n{READS_ON}print('{error}')\nsys.exit(5)"
    other, hold = held(tmp_path, text)
    with pytest.raises(HostError, match="the destination refuses: the lock"):
        other.let_go(hold)

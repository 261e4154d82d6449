# SPDX-License-Identifier: Apache-2.0
"""The waiting room: tickets live as long as their owners, and answers reach them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apvfio.model.errors import HostError
from apvfio.store.waiting import FileRoom, MemoryRoom, Room

CALL = {"call": "release", "uuid": "1"}

OWNER = """\
import sys
from apvfio.store.waiting import FileRoom
with FileRoom(sys.argv[1]).post({"call": "other"}) as ticket:
    print("posted", flush=True)
    sys.stdin.readline()
    print(ticket.answer, flush=True)
"""


@pytest.fixture(params=["memory", "file"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    return MemoryRoom() if request.param == "memory" else FileRoom(str(tmp_path / "waiting"))


def another(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that waits in the room."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "waiting")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "posted\n"
    return process


def test_an_empty_room(room: Room) -> None:
    assert room.tickets() == []


def test_a_call_waits_and_is_answered(room: Room) -> None:
    with room.post(CALL) as mine:
        assert mine.answer is None
        (seen,) = room.tickets()
        assert (seen.call, seen.answer) == (CALL, None)
        seen.reply({"error": None})
        assert mine.answer == {"error": None}
    assert room.tickets() == []


def test_the_oldest_is_first(room: Room) -> None:
    calls = [{"n": n} for n in range(3)]
    with room.post(calls[0]), room.post(calls[1]), room.post(calls[2]):
        assert [ticket.call for ticket in room.tickets()] == calls


def test_an_error_takes_the_ticket_along(room: Room) -> None:
    with pytest.raises(KeyError), room.post(CALL):
        raise KeyError
    assert room.tickets() == []


def test_another_process(tmp_path: Path) -> None:
    room = FileRoom(str(tmp_path / "waiting"))
    with another(tmp_path) as process:
        (ticket,) = room.tickets()
        assert ticket.call == {"call": "other"}
        ticket.reply({"n": 1})
        out, _ = process.communicate("\n")
    assert out == "{'n': 1}\n"
    assert os.listdir(tmp_path / "waiting") == []


def test_the_dead_want_nothing(tmp_path: Path) -> None:
    room = FileRoom(str(tmp_path / "waiting"))
    with another(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    assert len(os.listdir(tmp_path / "waiting")) == 1
    assert room.tickets() == []
    assert os.listdir(tmp_path / "waiting") == []


def test_who_gave_up_is_not_answered(tmp_path: Path) -> None:
    room = FileRoom(str(tmp_path / "waiting"))
    with room.post(CALL):
        (ticket,) = room.tickets()
    ticket.reply({"error": None})
    assert os.listdir(tmp_path / "waiting") == []


def test_half_an_answer_is_none(tmp_path: Path) -> None:
    room = FileRoom(str(tmp_path / "waiting"))
    with room.post(CALL) as ticket:
        (name,) = os.listdir(tmp_path / "waiting")
        with open(tmp_path / "waiting" / name, "ab") as file:
            file.write(b'{"error": nu')
        assert ticket.answer is None
        assert ticket.call == CALL


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"\xff\n", b"{" * 100_000 + b"\n"])
def test_a_strange_ticket_asks_for_nothing(tmp_path: Path, content: bytes) -> None:
    room = FileRoom(str(tmp_path / "waiting"))
    with room.post(CALL) as ticket:
        (name,) = os.listdir(tmp_path / "waiting")
        (tmp_path / "waiting" / name).write_bytes(content)
        assert (ticket.call, ticket.answer) == ({}, None)


def test_only_the_owner_enters(tmp_path: Path) -> None:
    with FileRoom(str(tmp_path / "waiting")).post(CALL):
        (name,) = os.listdir(tmp_path / "waiting")
        assert stat.S_IMODE(os.stat(tmp_path / "waiting").st_mode) == 0o700
        assert stat.S_IMODE(os.stat(tmp_path / "waiting" / name).st_mode) == 0o600


def test_no_room(tmp_path: Path) -> None:
    (tmp_path / "waiting").write_text("")
    with (
        pytest.raises(HostError, match="waiting cannot be used"),
        FileRoom(str(tmp_path / "waiting")).post(CALL),
    ):
        pass

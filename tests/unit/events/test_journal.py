# SPDX-License-Identifier: Apache-2.0
"""Entries of the journal: what is sent, that no text forges a field, and that nobody waits for it."""

from __future__ import annotations

import re
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events.event import COUNTED, KINDS, PENDING, REFUSED, STARTED, Event
from apvfio.events.journal import fields, send
from apvfio.events.record import note_refusal
from apvfio.model.errors import ConflictError
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Matrix
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPLAINED = Path(__file__).parents[3] / "hooks" / "apvfio.catalog"
A_START = Event(
    1.5, STARTED, "boot", "db1", guest(1), mdev(1), a_matrix("0,10", "1"), "domains", collateral=("01.0001",)
)
LENGTH = 8


def parsed(data: bytes) -> list[tuple[str, bytes]]:
    """The fields of a datagram, as systemd's JOURNAL_NATIVE_PROTOCOL has them."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            length = int.from_bytes(rest[:LENGTH], "little")
            value, end = rest[LENGTH : LENGTH + length], rest[LENGTH + length :][:1]
            assert (len(value), end) == (length, b"\n")
            data = rest[LENGTH + length + 1 :]
        found.append((name.decode("ascii"), value))
    return found


class Journal:
    """A socket as journald has one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(10)

    def entry(self, event: Event) -> list[tuple[str, bytes]]:
        """What arrives when ``event`` is sent."""
        send(event, self.path)
        return parsed(self.socket.recv(1 << 20))


@contextmanager
def journal(directory: Path) -> Iterator[Journal]:
    there = Journal(str(directory / "socket"))
    with there.socket:
        yield there


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    with journal(tmp_path_factory.mktemp("journal")) as there:
        yield there


def test_an_entry(listening: Journal) -> None:
    assert listening.entry(A_START) == [
        ("MESSAGE", b"guest db1 has 2 queues: adapters 0,10, domains 1, freed by domains"),
        ("MESSAGE_ID", b"09ba222812584ee887c5f8c750137b78"),
        ("PRIORITY", b"6"),
        ("SYSLOG_IDENTIFIER", b"apvfio"),
        ("APVFIO_EVENT", b"started"),
        ("APVFIO_GUEST", b"db1"),
        ("APVFIO_UUID", guest(1).encode()),
        ("APVFIO_MDEV", mdev(1).encode()),
        ("APVFIO_FREED_BY", b"domains"),
        ("APVFIO_ADAPTERS", b"0,10"),
        ("APVFIO_DOMAINS", b"1"),
        ("APVFIO_QUEUE", b"00.0001"),
        ("APVFIO_QUEUE", b"0a.0001"),
        ("APVFIO_COLLATERAL", b"01.0001"),
    ]


@pytest.mark.parametrize(
    ("event", "priority"),
    [
        (A_START._replace(warnings=("careful",)), b"4"),
        (Event(0, REFUSED, text="no"), b"4"),
        (Event(0, PENDING, text="apmask 0"), b"5"),
        (Event(0, PENDING), b"6"),
    ],
)
def test_what_needs_somebody_is_not_mere_information(
    listening: Journal, event: Event, priority: bytes
) -> None:
    assert dict(listening.entry(event))["PRIORITY"] == priority


def test_the_largest_matrix_fits(listening: Journal) -> None:
    everything = A_START._replace(
        guest="n" * 65_536,
        matrix=Matrix(ALL_IDS, ALL_IDS),
        collateral=("ff.00ff",) * 65_536,
        warnings=("w" * 500,) * 300,
    )
    found = listening.entry(everything)
    assert dict(found)["APVFIO_ADAPTERS"] == b"0-255"
    assert [name for name, _ in found].count("APVFIO_QUEUE") == 256
    scattered = IdSet(range(0, 256, 2))
    assert listening.entry(A_START._replace(matrix=Matrix(scattered, scattered)))


PARTS = ("\n", "=", "\0", "APVFIO_GUEST", "APVFIO_GUEST=x\n", "\x01" + "\0" * 7, "\ud800", "\x1b", "é")
LINES = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)


@given(LINES, LINES, st.lists(LINES, max_size=3))
def test_no_text_becomes_a_field(listening: Journal, name: str, text: str, warnings: list[str]) -> None:
    event = A_START._replace(guest=name, text=text, warnings=tuple(warnings))
    expected = [(field, value.encode("utf-8", "replace")) for field, value in fields(event) if value]
    assert listening.entry(event) == expected
    assert set(dict(expected)) <= {field for field, _ in fields(A_START)} | {"APVFIO_WARNING"}
    assert dict(expected)["MESSAGE"].decode().isprintable()


def test_nobody_listens(tmp_path: Path) -> None:
    send(A_START, str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    send(A_START, str(tmp_path / "file"))
    send(A_START, "x" * 200)


def test_a_journal_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    with journal(tmp_path) as full:
        for _ in range(1000):
            send(A_START, full.path)
        full.socket.setblocking(False)
        arrived = 0
        while True:
            try:
                full.socket.recv(1 << 20)
            except BlockingIOError:
                break
            arrived += 1
        assert 0 < arrived < 1000


def test_only_this_machines_journal_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Event] = []
    monkeypatch.setattr("apvfio.events.journal.send", sent.append)
    machine = Machine()

    def life() -> None:
        start_guest(machine, a_request("0", "1"))
        with pytest.raises(ConflictError) as refused:
            start_guest(machine, a_request("0", "1", 2))
        note_refusal(machine, refused.value)
        release_guest(machine, guest(1))

    life()
    assert sent == []
    monkeypatch.setattr("apvfio.events.record.on_this_machine", lambda system: system is machine)
    life()
    assert [event.kind for event in sent] == ["planned", "started", "refused", "stopped"]


def test_the_catalogue_explains_each_kind_with_fields_that_are_sent() -> None:
    text = EXPLAINED.read_text()
    ids = [kind.message_id for name, kind in KINDS.items() if name != COUNTED]
    assert len(set(ids)) == len(ids) == len(KINDS) - 1
    entries = dict(re.findall(r"^-- ([0-9a-f]{32})\n(.*?)(?=^-- |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(entries) == set(ids)
    sent = {name for name, _ in fields(A_START)}
    for entry in entries.values():
        head, body = entry.split("\n\n", 1)
        assert [line.split(":")[0] for line in head.split("\n")] == ["Subject", "Defined-By", "Documentation"]
        assert len(body) > 80
        assert set(re.findall(r"@(\w+)@", entry)) <= sent

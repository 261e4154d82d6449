# SPDX-License-Identifier: Apache-2.0
"""The waiting room: calls that wait for the host's lock are posted, so that whoever holds it serves them.

Many guests started at once would each change the masks, one after the other. Instead the one
that has the lock reads what the others want and does it all with one write for each mask; the
others find their answer when they get the lock.

A ticket is a file below /run that its owner holds locked as long as he lives: a ticket that
can be locked is that of a dead process and is thrown away. It holds the call, one line of JSON, and
in the end the answer, another. Both are read and written under the host's lock only.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, suppress
from errno import EACCES, EIO, EMFILE, ENFILE, ENOMEM

from apvfio.model.typed import Protocol
from apvfio.store.safe_open import file_error, make_private, open_ordinary, require_private, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import Any

    Document = dict[str, Any]

ROOM = "run/apvfio/waiting"
_NEW = ".new"
_LIMIT = 1 << 16
_UNTOLD = (EACCES, EIO, EMFILE, ENFILE, ENOMEM)
"""Why a ticket may not be opened though its owner lives; anything else in its place is no ticket."""


class Ticket(Protocol):
    """One call that waits."""

    @property
    def name(self) -> str:
        """Tells it from all others."""

    @property
    def call(self) -> Document:
        """What is asked for."""

    @property
    def answer(self) -> Document | None:
        """What came of it, None as long as nobody has served it."""

    def reply(self, answer: Document) -> None:
        """Leave the answer for the owner."""


class Room(Protocol):
    """Where the calls wait."""

    def post(self, call: Document) -> AbstractContextManager[Ticket]:
        """Wait with ``call``; the ticket is gone when the context ends."""

    def tickets(self) -> list[Ticket]:
        """The tickets of the living, the oldest first, one's own among them."""


class MemoryRoom:
    """A waiting room for those in one process."""

    def __init__(self) -> None:
        self._tickets: list[MemoryTicket] = []

    @contextmanager
    def post(self, call: Document) -> Iterator[MemoryTicket]:
        ticket = MemoryTicket(call)
        self._tickets.append(ticket)
        try:
            yield ticket
        finally:
            self._tickets.remove(ticket)

    def tickets(self) -> list[Ticket]:
        return list(self._tickets)


class MemoryTicket:
    """A ticket in a `MemoryRoom`."""

    def __init__(self, call: Document) -> None:
        self.name = f"{id(self):x}"
        self.call = call
        self.answer: Document | None = None

    def reply(self, answer: Document) -> None:
        self.answer = answer


class FileRoom:
    """The waiting room in the directory ``path``, which only its owner can enter."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def post(self, call: Document) -> Iterator[FileTicket]:
        """As in `Room`; FileError if the ticket cannot be written.

        One that cannot be removed is no error: closing it shows that nobody waits any more.
        """
        name = f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME):020d}-{os.getpid()}"
        path = os.path.join(self._path, name)
        try:
            for directory in (os.path.dirname(self._path), self._path):
                make_private(directory)
                require_private(directory)
            # It gets its name when it is locked and whole: what others see is never half a ticket.
            fd = os.open(path + _NEW, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise file_error(self._path, "used", error) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                write_all(fd, _line(call))
                os.rename(path + _NEW, path)
            except OSError as error:
                raise file_error(self._path, "written", error) from error
            yield FileTicket(path)
        finally:
            for left in (path, path + _NEW):
                with suppress(OSError):
                    os.unlink(left)
            os.close(fd)

    def tickets(self) -> list[Ticket]:
        try:
            names = sorted(os.listdir(self._path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise file_error(self._path, "listed", error) from error
        paths = (os.path.join(self._path, name) for name in names if not name.endswith(_NEW))
        return [FileTicket(path) for path in paths if _lives(path)]


class FileTicket:
    """A ticket in a `FileRoom`."""

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self._path = path

    @property
    def call(self) -> Document:
        lines = self._lines()
        return lines[0] if lines else {}

    @property
    def answer(self) -> Document | None:
        lines = self._lines()
        return lines[1] if len(lines) > 1 else None

    def reply(self, answer: Document) -> None:
        # The owner may have given up. If the answer cannot be written, he serves himself when it is his turn.
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                write_all(fd, _line(answer))
            finally:
                os.close(fd)

    def _lines(self) -> list[Document]:
        """The documents in it; one that is not whole does not count. FileError if it cannot be read."""
        try:
            fd = open_ordinary(self._path, os.O_RDONLY)
            try:
                lines = os.read(fd, _LIMIT).splitlines(keepends=True)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise file_error(self._path, "read", error) from error
        found = []
        for line in lines:
            with suppress(ValueError, RecursionError):
                document = json.loads(line) if line.endswith(b"\n") else None
                if isinstance(document, dict):
                    found.append(document)
        return found


def _line(document: Document) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _lives(path: str) -> bool:
    """Whether the owner of a ticket lives; that of a dead one is thrown away, if it can be.

    FileError if that cannot be told: a living guest's start must not be taken for a dead one's.
    """
    try:
        fd = open_ordinary(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _UNTOLD:
            raise file_error(path, "read", error) from error
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise file_error(path, "locked", error) from error
    finally:
        os.close(fd)
    with suppress(OSError):
        os.unlink(path)
    return False

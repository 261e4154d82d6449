# SPDX-License-Identifier: Apache-2.0
"""The host's end of a lane: one request at a time to the agent in the machine, which says how."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from problems import MachineError, TimedOutError

if TYPE_CHECKING:
    from collections.abc import Iterator

LANES = 8
"""Commands that run in one machine at once."""
_HEADER = struct.Struct(">cI")
_NAP = 0.02


class Lane:
    """A connection to one lane of a machine."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def ask(self, request: dict[str, object], out: BinaryIO, err: BinaryIO) -> int:
        """The exit status of what was asked; output goes to ``out`` and ``err`` as it comes. MachineError."""
        marker = secrets.token_bytes(16)
        line = json.dumps({"marker": marker.hex(), **request})
        self._connection.sendall(line.encode() + b"\n")
        seen = b""
        while not seen.endswith(marker):
            seen = seen[-len(marker) :] + self._receive(1)
        streams = {b"o": out, b"e": err}
        while True:
            letter, length = _HEADER.unpack(self._receive(_HEADER.size))
            data = self._receive(length)
            if letter == b"x":
                return int.from_bytes(data, "big")
            streams[letter].write(data)
            streams[letter].flush()

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimedOutError
            self._connection.settimeout(left)
            try:
                part = self._connection.recv(size - len(data))
            except TimeoutError:
                raise TimedOutError from None
            except OSError as error:
                raise MachineError(f"the machine ended: {error}") from error
            if not part:
                raise MachineError("the machine ended before the command did")
            data += part
        return data


@contextmanager
def free_lane(directory: str, deadline: float) -> Iterator[Lane]:
    """A lane of the machine in ``directory`` that nobody else uses; waits for one. MachineError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        number, lock = _claim(descriptor, deadline)
        try:
            with connected(descriptor, f"lane{number}", deadline) as connection:
                yield Lane(connection, deadline)
        finally:
            os.close(lock)
    finally:
        os.close(descriptor)


def _claim(directory: int, deadline: float) -> tuple[int, int]:
    while True:
        for number in range(LANES):
            lock = os.open(f"lock{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return number, lock
        if time.monotonic() > deadline:
            raise TimedOutError
        time.sleep(_NAP)


def connected(directory: int, name: str, deadline: float) -> socket.socket:
    """A connection to the socket ``name`` in an open directory, once somebody listens. TimedOutError."""
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            # A socket's address has no room for long paths.
            connection.connect(f"/proc/self/fd/{directory}/{name}")
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
        else:
            return connection
        if time.monotonic() > deadline:
            raise TimedOutError
        time.sleep(_NAP)

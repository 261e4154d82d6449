# SPDX-License-Identifier: Apache-2.0
"""A process in which libvirt migrates a guest; if the process is killed, libvirt ends the migration.

libvirt's call waits without limit for the other host, for its hooks and for its QEMU, and nothing within a
process can end the call. If a migration has lost its client, libvirt lets the guest continue where it was, or
leaves it halted. The guest never runs on both hosts because of this.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from apvfio.migration.budget import Budget
from apvfio.migration.daemon import Daemon
from apvfio.model.errors import ApvfioError, unexpected

if TYPE_CHECKING:
    from types import TracebackType

_LARGEST = 1 << 16


class Order(NamedTuple):
    """Which guest to move, and how; the fields are those of `apvfio.libvirt.guests.Guest.migrate`."""

    uuid: str
    source: str
    """libvirt's URI of the host it runs on."""
    target: str
    route: str | None
    persist: bool
    undefine: bool
    encrypted: bool


class TransferProcess:
    """The process, used in a ``with``: made before this one has threads or connections, for one order."""

    def __init__(self) -> None:
        self._channel, other = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            self._channel.close()
            _serve(other)
        other.close()

    def __enter__(self) -> TransferProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._channel.close()

    def begin(self, order: Order) -> None:
        """Have the guest moved."""
        with suppress(OSError):  # `answer` says that it has ended
            self._channel.sendall(json.dumps(order).encode() + b"\n")

    def answer(self, seconds: float) -> list[ApvfioError] | None:
        """Wait for the end of the move; the error, if there was one, or None if it has not ended so soon."""
        if not select.select([self._channel], [], [], seconds)[0]:
            return None
        try:
            sentence = json.loads(self._channel.recv(_LARGEST))
        except (OSError, ValueError):
            sentence = "the process that migrates it through libvirt was killed."
        return [ApvfioError(sentence)] if sentence else []

    def kill(self) -> None:
        """End the process at once, and with it its transfer."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _serve(channel: socket.socket) -> None:
    """Carry out one order, and end with the process that gave it."""
    sentence = "unexpected end."
    try:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with channel.makefile("rb") as stream:
            line = stream.readline()
        if line:
            threading.Thread(target=_end_with_parent, args=(channel,), daemon=True).start()
            sentence = _carry_out(Order(*json.loads(line)))
            channel.sendall(json.dumps(sentence).encode())
    finally:
        os._exit(0)


def _end_with_parent(channel: socket.socket) -> None:
    channel.recv(1)
    os._exit(1)


def _carry_out(order: Order) -> str:
    """What went wrong, as a sentence; '' if nothing did."""
    try:
        with Daemon(order.source, Budget(None)) as source, Daemon(order.target, Budget(None)) as target:
            guest = source.running(order.uuid)
            guest.migrate(
                target.guests(),
                route=order.route,
                persist=order.persist,
                undefine=order.undefine,
                encrypted=order.encrypted,
            )
    except ApvfioError as error:
        return error.sentence
    except Exception as error:  # a traceback must not be what a user reads
        return unexpected(error).sentence
    return ""

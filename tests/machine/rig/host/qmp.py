# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor: as much of its protocol as the machine needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from problems import MachineError, TimedOutError

if TYPE_CHECKING:
    import socket


class Monitor:
    """A conversation with one QEMU over a connected socket that has a timeout."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rw", encoding="utf-8")
        self._read()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> dict[str, Any]:
        """What QEMU returns. MachineError if it refuses, ends, or says nothing in time."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise MachineError(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                returned: dict[str, Any] = answer["return"]
                return returned

    def _read(self) -> dict[str, Any]:
        try:
            line = self._file.readline()
        except TimeoutError:
            raise TimedOutError from None
        if not line:
            raise MachineError("QEMU ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

# SPDX-License-Identifier: Apache-2.0
"""Whether those for whom queues are kept still run: nobody always says when one ends.

A daemon that dies together with its guest never calls ``release``. QEMU's command line, as
libvirt writes it, has the guest's uuid (qemu_command.c:qemuBuildCommandLine, ``-uuid``).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from apvfio.ledger import HELD
from apvfio.promises import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apvfio.ledger import Lease, Ledger

GRACE = 120
"""Seconds a guest has from getting its queues to having a QEMU process: hooks of others run between."""
_COMMAND_LIMIT = 1 << 20
_STARTED = 19
"""Where ``starttime`` is among the fields from the state on (proc(5))."""


def abandoned(
    ledger: Ledger, running: Iterable[str], now: int, stopped: Mapping[str, int] | None = None
) -> list[Lease]:
    """The leases whose guest should run and does not; ``running`` are uuids, ``now`` is as `now` tells.

    ``stopped`` are guests of which it is known when they stopped: they are not waited for.
    """
    alive = set(running)
    held = (lease for lease in ledger.leases.values() if lease.state == HELD and lease.uuid not in alive)
    return [
        lease
        for lease in held
        if lease.since <= (stopped or {}).get(lease.uuid, -1) or not lease.since <= now < lease.since + GRACE
    ]


def now() -> int:
    """Whole seconds since the boot, sleep included."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def running_guests(proc: str = "/proc") -> set[str]:
    """The uuids of the guests that have a QEMU process."""
    found = set()
    for name in filter(str.isdigit, os.listdir(proc)):
        # It has just ended.
        with suppress(OSError), open(f"{proc}/{name}/cmdline", "rb") as file:
            words = file.read(_COMMAND_LIMIT).split(b"\0")
            if b"-uuid" in words[:-1]:
                found.add(words[words.index(b"-uuid") + 1].decode("utf-8", "replace").lower())
    return found


def find_process(pid: int, proc: str = "/proc") -> Process | None:
    """The process ``pid``, None if there is none or it has ended and only its parent does not know."""
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name, in parentheses, may hold anything.
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else Process(pid, int(fields[_STARTED]))
    except (OSError, ValueError, IndexError):
        return None


def parent() -> Process | None:
    """The process that started this one, None if it has ended."""
    pid = os.getppid()
    return find_process(pid) if pid > 1 else None

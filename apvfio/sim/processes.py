# SPDX-License-Identifier: Apache-2.0
"""The processes of a simulated host: QEMUs of guests, and others that open a mediated device.

A process ends in two steps. After `Processes.linger` it is a zombie: no QEMU of its guest any more, while
its other threads, which the kernel keeps busy, still have the device open. `Processes.end` closes the
device and frees the pid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from apvfio.mdev.devices import is_uuid
from apvfio.model.process import UNKNOWN, Process
from apvfio.sim import json_fields

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from apvfio.sim.kernel import SimKernel

_FIRST = 1000


@dataclass
class SimProcess:
    """One process."""

    started: int
    """In clock ticks since the boot; no two processes of a host have the same."""
    guest: str = ""
    """The uuid of the guest whose QEMU it is, '' if it is no QEMU."""
    name: str = ""
    """The guest's name."""
    zombie: bool = False


@dataclass
class _Saved:
    """What the simulated host's file has."""

    ticks: int = 0
    table: dict[str, SimProcess] = field(default_factory=dict)


class Processes:
    """The processes of one host, and their use of the mediated devices of its ``kernel``."""

    def __init__(self, kernel: SimKernel) -> None:
        self._kernel = kernel
        self._ticks = 0
        self.table: dict[int, SimProcess] = {}
        """By pid."""

    def start(self, guest: str = "", name: str = "", pid: int = 0) -> Process:
        """Start a process: the QEMU of the guest with that uuid and ``name``, or another if ``guest`` is ''.

        Its pid is new, unless ``pid`` names one that an earlier process had.
        """
        self._ticks += 1
        pid = pid or next(pid for pid in count(_FIRST + self._ticks) if pid not in self.table)
        assert pid not in self.table, pid
        self.table[pid] = SimProcess(self._ticks, guest, name)
        return Process(pid, self._ticks)

    def open(self, pid: int, mdev: str, *, kvm: bool = True) -> None:
        """The process opens the mediated device, with ``kvm`` for a virtual machine.

        Without one, no queue shows as in use. OSError as open(2) would answer.
        """
        self._kernel.attach_guest(mdev, f"pid {pid}" if kvm else "", pid)

    def linger(self, pid: int) -> None:
        """The process becomes a zombie that still has its device open."""
        self.table[pid].zombie = True

    def end(self, pid: int) -> None:
        """The process is gone, and its device closed."""
        for uuid, mdev in self._kernel.state.mdevs.items():
            if mdev.opener == pid:
                self._kernel.detach_guest(uuid)
        del self.table[pid]

    def of_guest(self, guest: str) -> list[int]:
        """The pids of the guest, by its uuid or its name."""
        guests = ((pid, process) for pid, process in self._alive() if process.guest)
        return [pid for pid, process in guests if guest in (process.guest, process.name)]

    # As `apvfio.kernel.seam.System` has them.

    def running_guests(self) -> dict[str, Process]:
        """The QEMU process of each guest that runs, by the guest's uuid."""
        return {
            process.guest: Process(pid, process.started) for pid, process in self._alive() if process.guest
        }

    def opener(self, mdev: str) -> Process | None:
        """The process that has the mediated device open; a zombie's files are not shown, so it is unknown."""
        there = self._kernel.state.mdevs.get(mdev)
        if not there or not there.opener:
            return None
        process = self.table.get(there.opener)
        return UNKNOWN if process is None or process.zombie else Process(there.opener, process.started)

    def lives(self, process: Process) -> bool:
        """Whether the process still runs."""
        return any(process == (pid, other.started) for pid, other in self._alive())

    def _alive(self) -> Iterator[tuple[int, SimProcess]]:
        return ((pid, process) for pid, process in self.table.items() if not process.zombie)

    # JSON.

    def to_json(self) -> dict[str, Any]:
        """The processes, as `from_json` takes them back."""
        return json_fields.dump_fields(
            _Saved(self._ticks, {str(pid): process for pid, process in self.table.items()})
        )

    @classmethod
    def from_json(cls, document: object, kernel: SimKernel) -> Processes:
        """The processes that `to_json` wrote; RequestError says what is wrong with another document."""
        saved = json_fields.load_fields(_Saved, document, "processes")
        made = cls(kernel)
        made._ticks = saved.ticks
        for pid, process in saved.table.items():
            if not (pid.isascii() and pid.isdigit()):
                raise json_fields.unusable("processes", f"{pid[:40]!r} is not a pid")
            if process.guest and not is_uuid(process.guest):
                raise json_fields.unusable(f"processes.{pid}", f"{process.guest[:40]!r} is not a UUID")
            made.table[int(pid)] = process
        return made

# SPDX-License-Identifier: Apache-2.0
"""Guests on a host: their QEMU processes start, open their devices, linger and end, and time passes.

What is promised about their ends is in `model.endings`.
"""

from __future__ import annotations

from itertools import count

from apvfio.model.ledger import HELD
from apvfio.sim.processes import Processes
from hosts import guest, mdev
from model.clock import Clock
from model.endings import GRACE, sign_of_life
from model.others import Others

PAST_GRACE = GRACE + 1


class Lives(Others):
    """The host, and what happens to its guests without apvfio."""

    def __init__(self, profile: str) -> None:
        super().__init__(profile)
        self.clock = Clock()
        self.stopped: dict[int, int] = {}
        """The guests of which libvirt has said that they ended, or that did not come up, and when."""
        self.expected: set[int] = set()
        """The guests that are to arrive by a migration."""
        self.began: dict[int, float] = {}
        """When each guest got its queues."""
        self.forced: set[str] = set()
        """The devices that a person has insisted on taking away, whenever that succeeds."""
        self._know_processes()

    @property
    def processes(self) -> Processes:
        """Those of the host."""
        assert self.machine.processes
        return self.machine.processes

    def run_qemu(self, n: int, *, attach: bool) -> None:
        """A daemon starts QEMU for guest ``n``, which ends if it cannot open its device."""
        pid = self.processes.start(guest(n)).pid
        if attach:
            try:
                self.processes.open(pid, mdev(n))
            except OSError:
                self.processes.end(pid)
                return
            self.forced.discard(mdev(n))

    def do_die(self, n: int) -> None:
        """Guest ``n`` ends, and libvirt says nothing."""
        for pid, process in list(self.processes.table.items()):
            if process.guest == guest(n):
                self.processes.end(pid)
                self.began.pop(n, None)

    def do_linger(self, n: int) -> None:
        """The QEMU of guest ``n`` becomes a zombie, while the kernel still closes its files."""
        for pid in self.processes.of_guest(guest(n)):
            self.processes.linger(pid)
            self.began.pop(n, None)

    def do_open(self, n: int) -> None:
        """Somebody opens the device of guest ``n`` without a virtual machine, if nobody has it open."""
        pid = self.processes.start().pid
        try:
            self.processes.open(pid, mdev(n), kvm=False)
        except OSError:
            self.processes.end(pid)

    def do_close(self) -> None:
        """All of those end."""
        for pid, process in list(self.processes.table.items()):
            if not process.guest:
                self.processes.end(pid)

    def do_reuse(self) -> None:
        """An innocent process gets the pid of one that has just ended."""
        self.processes.start(pid=next(pid for pid in count(1001) if pid not in self.processes.table))

    def do_wait(self, seconds: int) -> None:
        """Time passes."""
        self.clock.now += seconds

    def do_reboot(self, apmask: str, stale: bool) -> None:
        """The host boots, without its processes."""
        super().do_reboot(apmask, stale)
        self.clock = Clock()
        self.stopped.clear()
        self.expected.clear()
        self.began.clear()
        self._know_processes()

    def lives(self, n: int) -> bool:
        """Whether there is any sign of life of guest ``n``."""
        lease = self.machine.ledger.leases.get(mdev(n))
        return bool(sign_of_life(self.machine, n, lease))

    def held(self, n: int) -> bool:
        """Whether the ledger says that guest ``n`` has its queues."""
        lease = self.machine.ledger.leases.get(mdev(n))
        return lease is not None and lease.state == HELD

    def has_queues(self, n: int) -> None:
        """Guest ``n`` has just been given its queues, and is to come up."""
        self.began[n] = self.clock.now
        self.stopped.pop(n, None)
        self.expected.discard(n)

    def has_no_queues(self, n: int, stopped: int | None, fault: object) -> None:
        """Guest ``n`` was refused, or its call failed, having ``stopped`` before, if it had.

        A call that failed may have left the queues to a guest that nobody waits for.
        """
        if fault is None or not self.held(n):
            if stopped is not None:
                self.stopped[n] = stopped
        else:
            self.began.pop(n, None)

    def awaited(self) -> set[int]:
        """The guests whose queues are kept for them though they may show no sign of life yet."""
        return {n for n, when in self.began.items() if self.clock.now - when < GRACE} - self.stopped.keys()

    def _know_processes(self) -> None:
        self.machine.processes = Processes(self.machine.kernel)

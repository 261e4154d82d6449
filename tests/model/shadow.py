# SPDX-License-Identifier: Apache-2.0
"""A host as it would be had apvfio never touched it: a twin on which only the others have acted.

What somebody else writes with success is written to the twin as well. A whole mask that chzdev
writes holds also what apvfio has cleared; so the twin gets the bits that the write changed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.model.host import BUS, MASK_NAMES, MaskBits
from apvfio.model.ids import NO_IDS, format_change
from apvfio.model.matrix import Apqn
from apvfio.sim.kernel import SimKernel
from memory_host import copied
from model.views import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.model.ids import IdSet
    from memory_host import Machine


class Shadow:
    """The twin of ``machine``, and the seam by which the others act on both."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.read = machine.kernel.read
        self.list = machine.kernel.list
        self.readlink = machine.kernel.readlink
        self.exists = machine.kernel.exists
        self.meanwhile = False
        """Whether apvfio is at work while the others act."""
        self.resync()

    def resync(self) -> None:
        """Let the twin be what the host is now."""
        self.kernel = SimKernel(copied(self._machine.kernel.state))
        self.unsure = dict.fromkeys(MASK_NAMES, NO_IDS)
        """Pending returns, or bits about to be, that another cleared: nobody knows whose they are."""
        queues = self._machine.kernel.state.queues
        self.touched = {name for name, queue in queues.items() if not queue.driver}
        """Queues that others have unbound or overridden by hand: apvfio may find them another driver."""
        self.moved = {name for name, queue in queues.items() if not queue.config and not queue.online}
        """Queues that others have moved by the masks, here or on the twin: what moves comes back online. And
        those that are deconfigured, which read offline whatever they were set to."""
        self.parted = False
        """Whether the twin could not follow, so that the two cannot be compared any more."""

    def write(self, path: str, text: str) -> None:
        """Write to the host and, if it takes it, to the twin."""
        kernel, name = self._machine.kernel, path.rpartition("/")[2]
        before = getattr(kernel.state, name) if name in MASK_NAMES else None
        kernel.write(path, text)
        if before is not None:
            self._masks(name, before, getattr(kernel.state, name))
            return
        queue = Apqn.parse(text) or Apqn.parse(path.split("/")[-2])
        if queue and name != "online":
            self.touched.add(queue)
        self.both(lambda twin: twin.write(path, text))

    def order(self, name: str, mask: IdSet) -> None:
        """The administrator has ordered ``mask``, through apvfio."""
        self._masks(name, getattr(self.kernel.state, name), mask)

    def hardware(self, change: Callable[[SimKernel], None]) -> None:
        """Change the machine below both."""
        change(self._machine.kernel)
        self.both(change)

    def both(self, change: Callable[[SimKernel], None]) -> None:
        """Do to the twin what has been done to the host; what it cannot do there is of no consequence:
        its queues are the host's that somebody's device took from apvfio's freed ones."""
        with suppress(OSError):
            change(self.kernel)

    def differences(self) -> Iterator[str]:
        """How the host differs from its twin when pending returns are taken for done."""
        if self.parted:
            return
        state, ledger = self._machine.kernel.state, self._machine.ledger
        for name, pending_bits in zip(MASK_NAMES, ledger.pending):
            mine, others = getattr(state, name) | pending_bits, getattr(self.kernel.state, name)
            odd = ((mine - others) | (others - mine)) - self.unsure[name]
            if odd:
                yield f"{name} differs in {odd}: {mine} here, {others} without apvfio"
        for queue, twin in self.kernel.state.queues.items():
            here = state.queues.get(queue)
            if here is None:
                yield f"{queue} is not there"
            elif queue not in self.touched:
                override = ledger.overrides.get(queue, here.override)
                if override != twin.override and here.override != twin.override:
                    yield f"{queue} has override {here.override!r}, {twin.override!r} without apvfio"

    def settled_differences(self) -> Iterator[str]:
        """How the host differs from its twin when nothing of apvfio's is left on it."""
        yield from self.differences()
        if self.parted or any(self.unsure.values()):
            return
        state = self._machine.kernel.state
        for queue, twin in self.kernel.state.queues.items():
            here = state.queues[queue]
            if queue in self.touched:
                continue
            # A queue that a mask write finds unbound is left so; apvfio finds it a driver.
            if here.driver != twin.driver and twin.driver:
                yield f"{queue} has driver {here.driver!r}, {twin.driver!r} without apvfio"
            known = queue not in self.moved and here.driver == HOST == twin.driver
            if known and here.online != twin.online:
                yield f"{queue} is {'on' if here.online else 'off'}line, not so without apvfio"

    def _masks(self, name: str, before: IdSet, after: IdSet) -> None:
        cleared, added = before - after, after - before
        if cleared:
            pending_bits = MaskBits(*self._machine.ledger.pending)
            at_risk = pending_bits.apmask if name == "apmask" else pending_bits.aqmask
            self.unsure[name] |= cleared if self.meanwhile else cleared & at_risk
        moved = cleared | added
        queues = self._machine.kernel.state.queues
        self.moved |= {q for q in queues if (q.adapter if name == "apmask" else q.domain) in moved}
        for ids, text in ((cleared, format_change(cleared)), (added, format_change(NO_IDS, added))):
            if ids:
                try:
                    self.kernel.write(f"{BUS}/{name}", text)
                except OSError:
                    self.parted = True

# SPDX-License-Identifier: Apache-2.0
"""Guests for which a reconcile waits: they may be starting, or have stopped with their device open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.engine.signs_of_life import Evidence
from apvfio.model.errors import printable
from apvfio.model.ledger import HELD
from apvfio.store.processes import GRACE, now, should_run
from apvfio.store.stop_records import ended

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Ledger


def waits(system: System, ledger: Ledger) -> list[str]:
    """For which guests that hold queues a reconcile waits, in sentences."""
    found = [
        f"guest {printable(lease.guest)}: while the kernel migrates it, masks and overrides cannot be "
        f"changed; the returns follow when that migration has ended"
        for lease in ledger.moving()
    ]
    if not system.knows_processes:
        return found
    here, signs, stopped = now(), Evidence(system), ended(system)
    for lease in ledger.leases.values():
        holder = signs.holder(lease, complete=stopped(lease))
        guest = f"guest {printable(lease.guest)}"
        if holder and stopped(lease):
            who = f"process {holder.process.pid}" if holder.process and holder.process.pid else "a process"
            found.append(
                f"{guest}: its stop was reported, but {who} still has its mediated device; "
                "the first call of apvfio after the end of that process returns its queues"
            )
        elif lease.state == HELD and not holder and not should_run(lease, here):
            seconds = lease.since + GRACE - here
            when = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
            found.append(
                f"{guest}: it has no QEMU process, but may still be starting; "
                f"a reconcile after {when} (in {seconds} s) returns its queues if it has none then"
            )
    return found

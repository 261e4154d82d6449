# SPDX-License-Identifier: Apache-2.0
"""What a reconcile does not do yet: guests that hold queues, do not run, and may still be starting."""

from __future__ import annotations

import time

from apvfio.errors import printable
from apvfio.evidence import Evidence
from apvfio.ledger import HELD
from apvfio.liveness import GRACE, now, should_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.ledger import Lease, Ledger
    from apvfio.system import System


def waits(system: System, ledger: Ledger) -> list[str]:
    """Until when a reconcile waits for each guest that holds queues and has no process, in sentences."""
    if not system.knows_processes:
        return []
    here, signs = now(), Evidence(system)
    return [
        _sentence(lease, lease.since + GRACE - here)
        for lease in ledger.leases.values()
        if lease.state == HELD and not should_run(lease, here) and not signs.holder(lease)
    ]


def _sentence(lease: Lease, seconds: int) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
    return (
        f"guest {printable(lease.guest)}: it has no QEMU process, but may still be starting; "
        f"a reconcile after {when} (in {seconds} s) returns its queues if it has none then"
    )

# SPDX-License-Identifier: Apache-2.0
"""When a guest's queues must return, and when they must not: the promises about the end of its life.

They are judged by the simulated host's processes and its kernel's memory, and by what was done to them;
nothing here asks the code under test whether a guest lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ledger import ENDING, HELD
from hosts import guest
from model.promised import is_stuck, require

if TYPE_CHECKING:
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Matrix
    from memory_host import Machine

GRACE = 120
"""Seconds from getting its queues in which a guest need not have a QEMU process."""
STOPPED = "run/apvfio/stopped."
"""What the names of recorded stops begin with."""


class Life(NamedTuple):
    """A guest that shows a sign of life, and what it has."""

    lease: Lease
    matrix: Matrix
    sign: str


def sign_of_life(machine: Machine, n: int, lease: Lease | None) -> str:
    """What shows that guest ``n`` lives or that its device is used, '' if nothing does; each is enough."""
    assert machine.processes
    for pid, process in machine.processes.table.items():
        if process.guest == guest(n) and not process.zombie:
            return f"its QEMU process {pid}"
    there = machine.kernel.state.mdevs.get(lease.mdev) if lease else None
    return f"its device open by process {there.opener}" if there and there.open else ""


def lives(machine: Machine, awaited: set[int]) -> list[Life]:
    """Those whose queues nobody else may take without force; ``awaited`` are to show a sign of life later."""
    found = []
    for lease in machine.ledger.leases.values():
        there = machine.kernel.state.mdevs.get(lease.mdev)
        n = number(lease)
        sign = sign_of_life(machine, n, lease) or ("its coming" if n in awaited else "")
        if there and sign and lease.state == HELD:
            found.append(Life(lease, there.matrix, sign))
    return found


def number(lease: Lease) -> int:
    """Which guest has the lease."""
    return int(lease.uuid[:8], 16)


def require_untouched(machine: Machine, before: list[Life], but: set[str]) -> None:
    """Whoever showed a sign of life has all that it had, unless its device is among ``but``."""
    ledger, mdevs = machine.ledger, machine.kernel.state.mdevs
    for lease, matrix, sign in before:
        if lease.mdev in but:
            continue
        now, there = ledger.leases.get(lease.mdev), mdevs.get(lease.mdev)
        who = f"{lease.guest} with {sign}"
        # The same start once more, by another daemon, takes nothing away.
        kept = now is not None and now.state != ENDING and now.matrix == lease.matrix
        require(f"{who} has the lease {now}", kept)
        require(f"{who} has the device {there}", there is not None and there.matrix == matrix)


def require_home(machine: Machine, stopped: dict[int, int], now: float) -> None:
    """No guest that has ended holds anything; ``stopped`` tells when libvirt has said so of which."""
    for lease in machine.ledger.leases.values():
        n = number(lease)
        if sign_of_life(machine, n, lease):
            continue
        if lease.state == ENDING:
            # Only a device that cannot be removed yet keeps it: its own, or one that goes first.
            there = machine.kernel.state.mdevs.get(lease.mdev)
            kept = (there is not None and there.open) or is_stuck(machine)
            require(f"{lease.guest} has not ended", kept)
        elif n in stopped and lease.since <= stopped[n]:
            require(f"{lease.guest} stopped at {stopped[n]} and is {lease.state} at {now:.0f}", holds=False)
        elif lease.state == HELD:
            require(f"{lease.guest} died unheard and is held", now - lease.since < GRACE)


def require_no_record(machine: Machine) -> None:
    """No stop is recorded but of a guest that shows a sign of life."""
    leases = {number(lease): lease for lease in machine.ledger.leases.values()}
    for path in machine.files.texts:
        if path.startswith(STOPPED):
            n = int(path.rpartition(".")[2][:8], 16)
            require(f"{path} is left", bool(sign_of_life(machine, n, leases.get(n))))


def stops(machine: Machine) -> dict[int, int]:
    """The guests whose stops are recorded, and when that was."""
    names = (
        path.removeprefix(STOPPED).split(".") for path in machine.files.texts if path.startswith(STOPPED)
    )
    return {int(uuid[:8], 16): int(when) for when, uuid in names}


def record_stop(machine: Machine, n: int, now: float) -> None:
    """What hooks/qemu does before anything else when guest ``n`` has stopped."""
    machine.files.texts[f"{STOPPED}{int(now)}.{guest(n)}"] = ""

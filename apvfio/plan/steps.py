# SPDX-License-Identifier: Apache-2.0
"""The steps that bring a host from what it is to what the ledger says it should be.

Starting and stopping a guest are the same thing: change the ledger, then take the steps
that are due. Taken twice, the second time there are none.
"""

from __future__ import annotations

from typing import NamedTuple

from apvfio.host import AP_MDEVS, BUS, Host
from apvfio.ledger import ENDING, HELD, Debt, Ledger
from apvfio.mask import NO_IDS, IdSet, format_change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.matrix import Matrix

REMOVE = "remove"
RETURN = "return"
FREE = "free"
CREATE = "create"
ASSIGN = "assign"


class Step(NamedTuple):
    """One write to the kernel; ``path`` is below /sys."""

    op: str
    path: str
    value: str

    def as_json(self) -> dict[str, str]:
        """The step as ``plan --json`` prints it."""
        return {"op": self.op, "path": f"/sys/{self.path}", "value": self.value}


def forgiven(ledger: Ledger, host: Host) -> Debt:
    """Debts that somebody else has paid: bits owed, needed by nobody, and set."""
    return (ledger.owed & Debt(host.apmask, host.aqmask)) - ledger.needed()


def due(ledger: Ledger, host: Host) -> list[Step]:
    """The steps due, in the order to take them: removals, returns, frees, creations."""
    removals = sorted(ledger.doomed() & host.mdevs.keys())
    staying = [matrix for uuid, matrix in host.mdevs.items() if uuid not in removals]
    return [
        *(Step(REMOVE, AP_MDEVS.remove(uuid), "1") for uuid in removals),
        *_mask_steps(RETURN, returnable(ledger, host, staying)),
        *_mask_steps(FREE, ledger.needed() & Debt(host.apmask, host.aqmask)),
        *_creations(ledger, host),
    ]


def returnable(ledger: Ledger, host: Host, mdevs: Iterable[Matrix]) -> Debt:
    """The owed bits that can go back now: needed by no lease, and not refused because of ``mdevs``.

    7.x refuses a bit while any mdev holds the id. Before, it refuses only if a queue of an mdev
    would become the host's (vops:vfio_ap_mdev_resource_in_use and its callers).
    """
    debt = ledger.owed - ledger.needed() - Debt(host.apmask, host.aqmask)
    for held in mdevs:
        if held.empty:
            continue
        if host.abilities.strict_return:
            debt -= Debt(held.adapters, held.domains)
            continue
        # One mask after the other is written: a queue must be kept by bits that stay as they are.
        if not _clear(held.domains, host.aqmask, debt.aqmask):
            debt -= Debt(held.adapters, NO_IDS)
        if not _clear(held.adapters, host.apmask, debt.apmask):
            debt -= Debt(NO_IDS, held.domains)
    return debt


def _clear(ids: IdSet, mask: IdSet, about_to_be_set: IdSet) -> bool:
    return not ids & (mask | about_to_be_set)


def _mask_steps(op: str, bits: Debt) -> Iterator[Step]:
    for name, ids in (("apmask", bits.apmask), ("aqmask", bits.aqmask)):
        if ids:
            value = format_change(ids) if op == FREE else format_change(NO_IDS, ids)
            yield Step(op, f"{BUS}/{name}", value)


def _creations(ledger: Ledger, host: Host) -> Iterator[Step]:
    for lease in ledger.leases.values():
        if lease.state in (ENDING, HELD) or not lease.made:
            continue
        there = host.mdevs.get(lease.mdev)
        if there is None:
            yield Step(CREATE, AP_MDEVS.create, lease.mdev)
        if there != lease.matrix:
            yield from _assignments(lease.mdev, lease.matrix, host)


def _assignments(mdev: str, matrix: Matrix, host: Host) -> Iterator[Step]:
    directory = AP_MDEVS.device(mdev)
    if host.abilities.ap_config:
        yield Step(ASSIGN, f"{directory}/ap_config", matrix.as_ap_config())
        return
    for kind, ids in zip(("adapter", "domain", "control_domain"), matrix, strict=True):
        for i in ids:
            yield Step(ASSIGN, f"{directory}/assign_{kind}", f"0x{i:x}")

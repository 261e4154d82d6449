# SPDX-License-Identifier: Apache-2.0
"""Pending returns: what apvfio took from the host and has not returned, and who still holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import MASK_NAMES
from apvfio.model.ids import NO_IDS, IdSet, format_list
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES, Lease
from apvfio.model.owners import GUEST, MDEV, Owner, mdev_owner
from apvfio.model.text import some_queues
from apvfio.plan.overrides import returnable_overrides
from apvfio.plan.steps import returnable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.model.claim import Claim
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn

OVERRIDE = "driver_override"
_WAYS = (BY_ADAPTERS, BY_DOMAINS)


class PendingReturn(NamedTuple):
    """What is returned together: bits of one mask, or queues with a ``driver_override``."""

    attribute: str
    """``apmask``, ``aqmask`` or `OVERRIDE`."""
    holders: tuple[Owner, ...]
    """The guests and mediated devices that keep it; if there are none, the next call returns it."""
    ids: IdSet = NO_IDS
    queues: tuple[Apqn, ...] = ()

    def __str__(self) -> str:
        if self.attribute == OVERRIDE:
            return f"the driver_override of {some_queues(self.queues)}"
        return f"{self.attribute} {self.ids}"

    @property
    def why(self) -> str:
        """Who holds it, as a clause."""
        if not self.holders:
            return "held by nobody: 'apvfio reconcile' returns it"
        return f"held by {', '.join(map(_named, self.holders))}"

    def as_json(self) -> dict[str, object]:
        """It as the commands' ``--json`` prints it."""
        bits = [str(queue) for queue in self.queues] if self.attribute == OVERRIDE else format_list(self.ids)
        holders = [owner._asdict() for owner in self.holders]
        return {
            "attribute": self.attribute,
            "queues" if self.attribute == OVERRIDE else "ids": bits,
            "held_by": holders,
        }


def pending_returns(host: Host, ledger: Ledger) -> list[PendingReturn]:
    """All of them, those with the same holders together."""
    return [*_of_masks(host, ledger), *_of_overrides(host, ledger)]


def _of_masks(host: Host, ledger: Ledger) -> Iterator[PendingReturn]:
    now = returnable(ledger, host, host.mdevs.values())
    there = host.masks
    for index, (name, way) in enumerate(zip(MASK_NAMES, _WAYS, strict=True)):
        by_holders: dict[tuple[Owner, ...], list[int]] = {}
        for i in ledger.pending[index]:
            free = i in now[index] or (i in there[index] and i not in ledger.needed_bits()[index])
            needing = [
                held
                for held in ledger.leases_and_claims()
                if held.freed_by == way and i in held.matrix[index]
            ]
            devices = [uuid for uuid, matrix in host.mdevs.items() if i in matrix[index]]
            by_holders.setdefault(() if free else _owners(needing, devices, ledger), []).append(i)
        for holders, ids in by_holders.items():
            yield PendingReturn(name, holders, ids=IdSet(ids))


def _of_overrides(host: Host, ledger: Ledger) -> Iterator[PendingReturn]:
    now = {queue for queue, _ in returnable_overrides(ledger, host, list(host.mdevs.values()))}
    by_holders: dict[tuple[Owner, ...], list[Apqn]] = {}
    for queue in sorted(ledger.overrides):
        needing = [
            held
            for held in ledger.leases_and_claims()
            if held.freed_by == BY_OVERRIDES and held.matrix.holds(queue)
        ]
        devices = [uuid for uuid, matrix in host.mdevs.items() if matrix.holds(queue)]
        holders = () if queue in now else _owners(needing, devices, ledger)
        by_holders.setdefault(holders, []).append(queue)
    for holders, queues in by_holders.items():
        yield PendingReturn(OVERRIDE, holders, queues=tuple(queues))


def _owners(needing: Sequence[Lease | Claim], devices: Sequence[str], ledger: Ledger) -> tuple[Owner, ...]:
    """Who needs it, or else whose device stands in the way of its return."""
    named = {held.mdev for held in needing} or set(devices)
    return tuple(sorted({mdev_owner(mdev, ledger) for mdev in named}))


def _named(owner: Owner) -> str:
    if owner.kind == GUEST:
        return str(owner)
    assert owner.kind == MDEV
    return f"the mediated device {owner.name}, which is not apvfio's"

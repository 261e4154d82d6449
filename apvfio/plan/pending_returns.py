# SPDX-License-Identifier: Apache-2.0
"""Pending returns: what apvfio took from the host and has not returned, and who still needs it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import MASK_NAMES
from apvfio.model.ids import NO_IDS, IdSet, format_list
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES
from apvfio.model.matrix import Matrix
from apvfio.model.owners import GUEST, MDEV, Owner, mdev_owner
from apvfio.model.text import some_queues
from apvfio.plan.overrides import returnable_overrides
from apvfio.plan.steps import returnable, returned_by_others

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn

OVERRIDE = "driver_override"


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
    set_again = returned_by_others(ledger, host)
    for index, (name, freed_by) in enumerate(zip(MASK_NAMES, (BY_ADAPTERS, BY_DOMAINS))):
        by_holders: dict[tuple[Owner, ...], list[int]] = {}
        for i in ledger.pending[index]:
            free = i in now[index] or i in set_again[index]
            holders = _holders(host, ledger, freed_by, partial(_has_id, index, i))
            by_holders.setdefault(() if free else holders, []).append(i)
        for holders, ids in by_holders.items():
            yield PendingReturn(name, holders, ids=IdSet(ids))


def _of_overrides(host: Host, ledger: Ledger) -> Iterator[PendingReturn]:
    now = {queue for queue, _ in returnable_overrides(ledger, host, list(host.mdevs.values()))}
    by_holders: dict[tuple[Owner, ...], list[Apqn]] = {}
    for queue in sorted(ledger.overrides):
        holders = _holders(host, ledger, BY_OVERRIDES, partial(Matrix.holds, queue=queue))
        by_holders.setdefault(() if queue in now else holders, []).append(queue)
    for holders, queues in by_holders.items():
        yield PendingReturn(OVERRIDE, holders, queues=tuple(queues))


def _holders(host: Host, ledger: Ledger, freed_by: str, holds: Callable[[Matrix], bool]) -> tuple[Owner, ...]:
    """Return who needs the bit or queue, or else whose device prevents its return."""
    needing = [held for held in ledger.leases_and_claims() if held.freed_by == freed_by]
    named = {held.mdev for held in needing if holds(held.matrix)}
    named = named or {uuid for uuid, matrix in host.mdevs.items() if holds(matrix)}
    return tuple(sorted({mdev_owner(mdev, ledger) for mdev in named}))


def _has_id(index: int, i: int, held: Matrix) -> bool:
    return i in held[index]


def _named(owner: Owner) -> str:
    if owner.kind == GUEST:
        return str(owner)
    assert owner.kind == MDEV
    return f"the mediated device {owner.name}, which is not apvfio's"

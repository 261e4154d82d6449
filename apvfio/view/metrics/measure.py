# SPDX-License-Identifier: Apache-2.0
"""The values of a host's metrics.

A zero is reported, too, so that no alerting rule waits for a series to appear.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from apvfio._version import __version__
from apvfio.engine.carry_out import Outcome
from apvfio.events import event
from apvfio.model import queue_states
from apvfio.model.host import MASK_NAMES, MASKS, OVERRIDES
from apvfio.model.ledger import STATES as LEASE_STATES
from apvfio.model.owners import FREE, GUEST, HOST, MDEV, UNBOUND
from apvfio.view.metrics import families
from apvfio.view.metrics.families import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apvfio.libvirt.status import Status
    from apvfio.model.ledger import Ledger
    from apvfio.view.metrics.families import Family

    Measured = dict[Family, list[Sample]]

OWNERS = (HOST.kind, GUEST, MDEV, FREE.kind, UNBOUND.kind)
EVENTS = tuple(sorted(event.KINDS.keys() - {event.HELD, event.COUNTED}))


def always(*, up: bool) -> Measured:
    """Return the metrics that are known even of a host that cannot be read."""
    return {families.UP: _one(up), families.BUILD: [Sample((__version__,), 1)]}


def events(counts: Mapping[str, int], damaged: int) -> Measured:
    """Return the numbers of the audit log."""
    return {families.EVENTS: _each(EVENTS, counts), families.DAMAGED: _one(damaged)}


def measure(found: Status) -> Measured:
    """Return the numbers of a host that was read."""
    host, ledger, held = found.host, found.ledger, found.ledger.leases.values()
    pending = Outcome([], ledger).pending
    measured = {
        families.MECHANISM: _each((MASKS, OVERRIDES), {found.mechanism: 1}),
        families.VFIO_AP: _one(host.vfio_ap),
        families.QUEUES: _each(OWNERS, Counter(owner.kind for owner in found.owners.values())),
        families.STATES: _each(queue_states.STATES, Counter(found.seen.states.values())),
        families.ADAPTERS: _of_adapters(found),
        families.RESERVED: _one(
            sum(owner != HOST and found.policy.reserves(queue) for queue, owner in found.owners.items())
        ),
        families.GUESTS: [
            Sample((lease.guest, lease.uuid, lease.mdev), sum(1 for _ in lease.matrix.queues()))
            for lease in held
        ],
        families.LEASES: _each(LEASE_STATES, Counter(lease.state for lease in held)),
        families.CLAIMS: _one(len(ledger.claims)),
        families.PENDING_BITS: _bits(ledger),
        families.UNNEEDED_BITS: _bits(pending),
        families.PENDING_OVERRIDES: _one(len(ledger.overrides)),
        families.UNNEEDED_OVERRIDES: _one(len(pending.overrides)),
        families.DRIFT: _one(len(found.drift)),
    }
    if found.policy_error:
        del measured[families.RESERVED]  # nobody knows
    return measured


def _of_adapters(found: Status) -> list[Sample]:
    counts = Counter((queue.adapter, owner.kind) for queue, owner in found.owners.items())
    return [
        Sample((f"{adapter:02x}", found.seen.types.get(adapter, ""), kind), counts[adapter, kind])
        for adapter in sorted({adapter for adapter, _ in counts})
        for kind in OWNERS
    ]


def _bits(ledger: Ledger) -> list[Sample]:
    return [Sample((name,), len(ids)) for name, ids in zip(MASK_NAMES, ledger.pending)]


def _each(values: Sequence[str], counts: Mapping[str, int]) -> list[Sample]:
    return [Sample((value,), counts.get(value, 0)) for value in values]


def _one(number: int) -> list[Sample]:
    return [Sample((), int(number))]

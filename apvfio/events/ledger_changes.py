# SPDX-License-Identifier: Apache-2.0
"""The events between two states of the ledger.

Every action of apvfio is in the ledger first. No lasting change is therefore missed, and none that was undone
is reported: a start counts once the guest's own hook has claimed its lease.
"""

from __future__ import annotations

from binascii import crc32

from apvfio.events.event import CHANGED, CLAIMED, HELD, MASKS, MECHANISM, PENDING, STARTED, STOPPED, Event
from apvfio.model.ids import format_list
from apvfio.model.ledger import CHANGING
from apvfio.model.ledger import HELD as HELD_LEASE
from apvfio.model.matrix import Matrix
from apvfio.model.text import mask_bits
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.model.ledger import Lease, Ledger


class Holder(NamedTuple):
    """A guest that holds queues, by one device."""

    guest: str
    uuid: str
    mdev: str
    matrix: Matrix
    freed_by: str


def holders(ledger: Ledger) -> dict[str, Holder]:
    """Return who holds which queues, by the device's uuid. A lease that was never held has no ``since``."""
    return {lease.mdev: _holder(lease) for lease in ledger.leases.values() if lease.since}


def _holder(lease: Lease) -> Holder:
    # During a live change, the guest has its former queues: the change may be undone.
    matrix = lease.before.matrix if lease.before and lease.state == CHANGING else lease.matrix
    return Holder(lease.guest, lease.uuid, lease.mdev, matrix, lease.freed_by)


def holding(boot: str, held: Iterable[Holder]) -> int:
    """Return a checksum of who holds which queues: equal states have equal checksums."""
    who = sorted(
        (h.mdev, h.uuid, format_list(h.matrix.adapters), format_list(h.matrix.domains)) for h in held
    )
    return crc32(repr((boot, who) if who else None).encode())


def events(before: Ledger, after: Ledger, now: float) -> Iterator[Event]:
    """Yield the events of the change from ``before`` to ``after``, at ``now``."""
    yield from differences(holders(before), holders(after), now, after.boot_id)
    for mdev, claim in after.claims.items():
        if mdev not in before.claims:
            yield Event(now, CLAIMED, after.boot_id, mdev=mdev, matrix=claim.matrix, freed_by=claim.freed_by)
    if _unneeded(after) != _unneeded(before):
        yield Event(now, PENDING, after.boot_id, text=_unneeded(after))
    strange = after.cleared_by_others - before.cleared_by_others
    if strange:
        bits = (mask_bits(name, ids) for name, ids in strange.named())
        text = f"another program cleared {' and '.join(bits)}"
        yield Event(now, MASKS, after.boot_id, text=text)
    if after.mechanism != before.mechanism:
        yield Event(now, MECHANISM, after.boot_id, text=after.mechanism)


def differences(
    before: dict[str, Holder], after: dict[str, Holder], now: float, boot: str, *, late: bool = False
) -> Iterator[Event]:
    """Who has come to hold something, holds something else, or nothing any more."""
    for mdev in [*before, *(mdev for mdev in after if mdev not in before)]:
        was, held = before.get(mdev), after.get(mdev)
        same = was and held and was.uuid == held.uuid
        if was and not same:
            yield _event(now, STOPPED, boot, was, late)
        if held and not same:
            yield _event(now, STARTED, boot, held, late)
        if was and held and same and was.matrix != held.matrix:
            yield _event(now, CHANGED, boot, held, late)


def still_held(held: Iterable[Holder], now: float, boot: str) -> Iterator[Event]:
    """What a new file of the audit log begins with."""
    return (_event(now, HELD, boot, holder, late=False) for holder in held)


def _event(now: float, kind: str, boot: str, who: Holder, late: bool) -> Event:
    return Event(now, kind, boot, who.guest, who.uuid, who.mdev, who.matrix, who.freed_by, late=late)


def _unneeded(ledger: Ledger) -> str:
    """Return the pending returns that no guest needs, as a clause; an ending lease still needs its own."""
    leases = {mdev: lease._replace(state=HELD_LEASE) for mdev, lease in ledger.leases.items()}
    holding_on = ledger._replace(leases=leases)
    bits, needed = ledger.pending - holding_on.needed_bits(), holding_on.needed_queues()
    parts = [f"{name} {format_list(ids)}" for name, ids in bits.named()]
    queues = [str(queue) for queue in sorted(ledger.overrides) if queue not in needed]
    return "; ".join([*parts, *(["driver_override of " + ", ".join(queues)] if queues else [])])

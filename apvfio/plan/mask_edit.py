# SPDX-License-Identifier: Apache-2.0
"""What a change of the masks does: which queues are freed or returned, by which writes.

chzdev computes the same but checks less: it knows neither leases nor the policy, nor the kernel's rule that a
mask bit cannot be set while a device holds its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import ALL_BITS, MASK_NAMES, OVERRIDES, Host, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet, union
from apvfio.model.ledger import Ledger
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.persistent_masks import StoredMasks
from apvfio.model.step import FREE, RETURN, Step
from apvfio.model.text import mask_bits
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.steps import mask_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.mask_grammar import MaskSpec
    from apvfio.model.policy import Policy
    from apvfio.model.text import WarningText


class MaskEdit(NamedTuple):
    """What the administrator typed; None for a mask that is not to change."""

    apmask: MaskSpec | None
    aqmask: MaskSpec | None
    active: bool = True
    persistent: bool = True
    removed: frozenset[str] = frozenset()
    """The masks, by name, that are not to be stored any longer."""


class MasksBefore(NamedTuple):
    """What a change starts from."""

    host: Host
    ledger: Ledger
    policy: Policy
    stored: StoredMasks
    autostart: dict[str, Matrix]
    """What mdevctl's devices will hold that start at boot, by their uuid."""

    @property
    def storable(self) -> MaskBits:
        """Return the masks to which a persistent change is applied: stored, else active, as with chzdev.

        Unlike with chzdev, bits that are clear only because guests run count as set: stored as clear, they
        would stay away from the host for good.
        """
        return self.stored.filled(self.host.masks | self.ledger.pending)

    @property
    def at_boot(self) -> MaskBits:
        """The masks after a boot with what is stored; the kernel's own are full."""
        return self.stored.filled(ALL_BITS)


class MaskChange(NamedTuple):
    """The result of a `MaskEdit` before anything is done."""

    changes: bool
    """Whether there is anything to do."""
    active: MaskBits
    stored: StoredMasks
    to_store: StoredMasks
    """The stored masks that are not so yet."""
    to_remove: tuple[str, ...]
    """The masks that are stored no longer."""
    lost: tuple[Apqn, ...]
    """The queues the host loses."""
    returned: tuple[Apqn, ...]
    """The queues the host gets."""
    steps: tuple[Step, ...]
    """The writes to the kernel."""
    ledger: Ledger
    warnings: tuple[str, ...]
    takes_last: bool = False
    """Whether no queue stays with the host, now or after a boot."""


def plan_edit(mask_edit: MaskEdit, before: MasksBefore) -> MaskChange:
    """Return what ``mask_edit`` would do. `apvfio.plan.mask_edit_checks` decides whether it is allowed."""
    now = before.host.masks
    active, stored, ledger = now, before.stored, before.ledger
    if mask_edit.active:
        edits = zip(mask_edit[:2], now)
        active = MaskBits(*(edit.apply(ids) if edit else ids for edit, ids in edits))
        decided = MaskBits(*(_decided(edit) for edit in mask_edit[:2]))
        # Set or cleared, these bits are now as the administrator wants them.
        ledger = ledger._replace(
            pending=ledger.pending - decided,
            cleared_by_admin=(ledger.cleared_by_admin - decided) | (decided - active),
        )
    if mask_edit.persistent:
        kept = zip(MASK_NAMES, mask_edit[:2], stored, before.storable)
        stored = StoredMasks(
            *(
                None if name in mask_edit.removed else edit.apply(base) if edit else ids
                for name, edit, ids, base in kept
            )
        )
    queues = sorted(before.host.drivers)
    differing = [*zip(MASK_NAMES, stored, before.stored)]
    change = MaskChange(
        changes=active != now or stored != before.stored or ledger.pending != before.ledger.pending,
        active=active,
        stored=stored,
        to_store=StoredMasks(*(None if ids == was else ids for _, ids, was in differing)),
        to_remove=tuple(name for name, ids, was in differing if ids is None and was is not None),
        lost=tuple(q for q in queues if now.give_host(q) and not active.give_host(q)),
        returned=tuple(q for q in queues if active.give_host(q) and not now.give_host(q)),
        # Bits are cleared first, so that no queue comes to the host that does not stay there.
        steps=(*mask_steps(FREE, now - active), *mask_steps(RETURN, active - now)),
        ledger=ledger,
        warnings=(),
    )
    left = [queues if active == now else [q for q in queues if active.give_host(q)]]
    if stored != before.stored:
        left.append([q for q in queues if stored.filled(ALL_BITS).give_host(q)])
    return change._replace(
        warnings=tuple(_warnings(mask_edit, before, change)), takes_last=bool(queues) and not all(left)
    )


def _decided(edit: MaskSpec | None) -> IdSet:
    """The bits a specification speaks of; without signs, it speaks of all."""
    if edit and edit.assigned is not None:
        return ALL_IDS
    return union(ids for _, ids in edit.changes) if edit else NO_IDS


def _warnings(mask_edit: MaskEdit, before: MasksBefore, change: MaskChange) -> Iterator[WarningText]:
    host = before.host
    if change.lost and not host.vfio_ap:
        yield "vfio_ap is not loaded: the freed queues will have no driver until 'modprobe vfio_ap'"
    wanted = mechanism_of(host, before.ledger, before.policy)
    if change.active != host.masks and host.mechanism is None and wanted == OVERRIDES:
        yield ("overrides are the chosen mechanism, and the kernel refuses them until all mask bits are set")
    kept = before.ledger.pending - change.ledger.pending - change.active
    for name, ids in kept.named():
        yield f"{mask_bits(name, ids)} will stay clear when its guests stop, because this command clears it"
    cleared = host.masks - change.active
    for uuid, held in host.mdevs.items() if host.abilities.strict_return else ():
        stuck = MaskBits() if held.empty else cleared & MaskBits(held.adapters, held.domains)
        for name, ids in stuck.named():
            yield f"{mask_bits(name, ids)} cannot be set again before the mediated device {uuid} is gone"
    if mask_edit.persistent:
        rows = zip(MASK_NAMES, mask_edit[:2], before.stored)
        unstored = [name for name, edit, ids in rows if ids is None and edit and edit.assigned is None]
        if unstored:
            yield (f"no {' and no '.join(unstored)} is stored: the active value is changed and stored")

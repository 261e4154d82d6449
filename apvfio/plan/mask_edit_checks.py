# SPDX-License-Identifier: Apache-2.0
"""Checks that reject a change of the masks: for a guest, a device, the policy, the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import ConflictError, HostError, PolicyError, RequestError, printable
from apvfio.model.host import HOST_DRIVER, MASK_NAMES, OVERRIDES, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, Claim
from apvfio.model.owners import GUEST, mdev_owner
from apvfio.model.persistent_masks import StoredMasks
from apvfio.model.policy import IGNORE, Busy, Policy
from apvfio.model.text import mask_bits, some_queues
from apvfio.plan.keep_and_busy import objections, refusals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Usage
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.text import WarningText
    from apvfio.plan.mask_edit import MaskChange, MaskEdit, MasksBefore

_UNRESERVE = "Change other bits, or change /etc/apvfio/apvfio.toml."


def require_possible(before: MasksBefore, change: MaskChange) -> None:
    """ConflictError, PolicyError or HostError if ``change`` must not be, or the kernel would refuse it."""
    if change.active != before.host.masks:
        _require_masks(before)
        _require_unneeded(change.active - before.host.masks, before.ledger)
        for uuid in before.host.mdevs:
            _require_unheld(uuid, before, change)
        _require_unreserved(before.host.masks, change.active, before, "the host")
    if change.stored != before.stored:
        # A mask that is no longer stored has all bits set at the next boot.
        left = zip(MASK_NAMES, change.stored)
        boot = StoredMasks(*(ALL_IDS if name in change.to_remove else ids for name, ids in left))
        after = before._replace(stored=boot)
        _require_unreserved(before.at_boot, after.at_boot, before, "the host of the next boot")
        _require_startable(before, after)


def require_stored(mask_edit: MaskEdit, before: MasksBefore) -> None:
    """RequestError if a mask that is to be removed is not stored, as with chzdev."""
    stored = zip(MASK_NAMES, before.stored)
    missing = [name for name, ids in stored if ids is None and name in mask_edit.removed]
    if missing:
        raise RequestError(f"no {' and no '.join(missing)} is stored.", remedy="See 'apvfio masks -p'.")


class Loss(NamedTuple):
    """Queues that the host, or the host of the next boot, loses."""

    whom: str
    queues: tuple[Apqn, ...]
    policy: Policy
    """The rules of the policy that apply."""


def losses(before: MasksBefore, change: MaskChange) -> Iterator[Loss]:
    """Return what the host loses now, and what it will not have after a boot."""
    drivers, policy = before.host.drivers, before.policy
    lost = tuple(queue for queue in change.lost if drivers[queue] == HOST_DRIVER)
    if lost:
        yield Loss("the host", lost, policy)
    old, new = before.at_boot, before._replace(stored=change.stored).at_boot
    lost = tuple(queue for queue in sorted(drivers) if old.give_host(queue) and not new.give_host(queue))
    if lost:
        # Keys outlive a boot. Requests, device nodes and the default domain do not (bus:ap_select_domain).
        busy = Busy(IGNORE, policy.busy.zkey, IGNORE, IGNORE)
        yield Loss("the host of the next boot", lost, Policy(busy=busy))


def weighed(loss: Loss, facts: Usage) -> list[WarningText]:
    """Return the warnings, in sentences; PolicyError, naming queues and reasons, for refused losses."""
    found = list(objections(loss.queues, loss.policy, facts))
    why, queues = refusals(found)
    if why:
        raise PolicyError(f"{loss.whom} would lose {why}.", queues=queues, remedy=_UNRESERVE)
    return [f"{loss.whom} loses {objection.why}" for objection in found]


def _require_masks(before: MasksBefore) -> None:
    if before.host.mechanism == OVERRIDES:
        raise HostError(
            f"driver_override is set for {some_queues(before.host.overrides)}, and while any is set, the "
            "kernel "
            "refuses mask changes.",
            remedy="Clear the overrides first.",
        )


def _require_unneeded(adds: MaskBits, ledger: Ledger) -> None:
    """No lease and no claim may lose the bits by which its queues are kept from the host."""
    for held in ledger.leases_and_claims():
        needed = MaskBits(
            adds.apmask & held.matrix.adapters if held.freed_by == BY_ADAPTERS else NO_IDS,
            adds.aqmask & held.matrix.domains if held.freed_by == BY_DOMAINS else NO_IDS,
        )
        if isinstance(held, Claim):
            holder, remedy = f"the mediated device {held.mdev}, which mdevctl starts", "Try again later."
        else:
            holder, remedy = f"guest {printable(held.guest)}", "Stop the guest first."
        _require_none(needed, held.matrix, holder, remedy)


def _require_unheld(uuid: str, before: MasksBefore, change: MaskChange) -> None:
    """No bit may be set that the kernel refuses because of the device ``uuid`` (facts of ap_bus.c)."""
    held = before.host.mdevs[uuid]
    if held.empty:
        return
    now = before.host.masks
    rows, columns = (change.active - now) & MaskBits(held.adapters, held.domains)
    if not before.host.abilities.strict_return:
        # In the order of the steps: apmask after the bits of aqmask are cleared, then aqmask after all that.
        rows = rows if held.domains & now.aqmask & change.active.aqmask else NO_IDS
        columns = columns if held.adapters & change.active.apmask else NO_IDS
    owner = mdev_owner(uuid, before.ledger)
    whose = f" of guest {printable(owner.name)}" if owner.kind == GUEST else ""
    holder, remedy = (
        f"the mediated device {uuid}{whose}",
        "Stop the guest or remove the mediated device first.",
    )
    _require_none(MaskBits(rows, columns), held, holder, remedy)


def _require_none(bits: MaskBits, held: Matrix, holder: str, remedy: str) -> None:
    named = [mask_bits(name, ids) for name, ids in bits.named()]
    if named:
        queues = list(filter(bits.touch, held.queues()))
        raise ConflictError(
            f"{' and '.join(named)} cannot return to the host: {holder} holds {some_queues(queues)}.",
            queues=queues,
            remedy=remedy,
        )


def _require_unreserved(old: MaskBits, new: MaskBits, before: MasksBefore, whom: str) -> None:
    reserved = filter(before.policy.reserves, before.policy.queues.union(before.host.drivers))
    lost = [queue for queue in reserved if old.give_host(queue) and not new.give_host(queue)]
    if lost:
        raise PolicyError(
            f"{some_queues(lost)} would be taken from {whom}, for which the policy reserves "
            f"{'it' if len(lost) == 1 else 'them'}.",
            queues=lost,
            remedy=_UNRESERVE,
        )


def _require_startable(before: MasksBefore, after: MasksBefore) -> None:
    """No device that mdevctl starts at boot may find its queues with the host then, as in chzdev."""
    target = after.storable
    adds = target - before.storable
    for uuid, held in before.autostart.items():
        queues = [queue for queue in held.queues() if adds.touch(queue) and target.give_host(queue)]
        if queues:
            raise ConflictError(
                f"mdevctl's definition {uuid} starts at boot and needs {some_queues(queues)}, "
                "which the stored masks would leave to the host.",
                queues=queues,
                remedy="Change the definition first.",
            )

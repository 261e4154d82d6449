# SPDX-License-Identifier: Apache-2.0
"""The differences between a host and its ledger, in sentences."""

from __future__ import annotations

from apvfio.model.errors import printable
from apvfio.model.host import ALL_BITS, OVERRIDES, VFIO_DRIVER, MaskBits
from apvfio.model.ids import NO_IDS, format_change, union
from apvfio.model.ledger import BY_ADAPTERS, BY_OVERRIDES, CHANGING, ENDING, HELD
from apvfio.model.text import mask_bits, some_queues
from apvfio.plan.overrides import overrides_returned_by_others, restore_steps, returnable_overrides
from apvfio.plan.steps import returnable, returned_by_others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.text import WarningText

_UNDER_WAY = {ENDING: "end", CHANGING: "change"}


def drift(
    host: Host, ledger: Ledger, intended: MaskBits = ALL_BITS, *, deferred: bool = False
) -> list[WarningText]:
    """Return every difference, lease by lease, then the masks; none if ``host`` agrees with the ledger.

    ``intended`` are the mask bits that the host's configuration clears; other clear bits have no known
    reason. ``deferred``: the systemd unit is about to make the possible returns.
    """
    found: list[str] = []
    for lease in ledger.leases.values():
        who = f"guest {printable(lease.guest)}"
        if lease.state != HELD:
            found.append(f"{who}: its {_under_way(lease)}, or was interrupted and waits for 'reconcile'")
            continue
        found += (f"{who}: {what}" for what in drift_of_lease(host, lease))
    found += (
        f"the mediated device {uuid}: its start by mdevctl is under way, or was interrupted and waits "
        "for 'reconcile'"
        for uuid in ledger.claims
    )
    found += _of_pending_returns(host, ledger, deferred=deferred)
    found += (
        f"{mask_bits(name, ids)} is clear, and no guest, mediated device or stored mask needs that: another "
        "program cleared it; to set it again, run 'apvfio masks --active "
        f"{name}={format_change(NO_IDS, ids)}'; "
        f"to leave it clear on purpose, run 'apvfio masks --active {name}={format_change(ids)}'"
        for name, ids in cleared_by_others(host, ledger, intended).named()
    )
    return found


def _under_way(lease: Lease) -> str:
    return f"{_UNDER_WAY.get(lease.state, 'start')} is under way"


def cleared_by_others(host: Host, ledger: Ledger, intended: MaskBits) -> MaskBits:
    """The clear bits of ids that ``host`` has and that no lease, claim, mediated device or person needs.

    ``intended`` are the bits that the boot parameters or the stored masks clear. The ledger has those that
    ``apvfio masks`` cleared.
    """
    if host.mechanism == OVERRIDES:
        return MaskBits()
    cleared = ALL_BITS - host.masks
    needing = [*host.mdevs.values(), *(held.matrix for held in ledger.leases_and_claims())]
    needed = MaskBits(union(held.adapters for held in needing), union(held.domains for held in needing))
    there = MaskBits(host.adapters, host.domains)
    return (cleared - intended - ledger.cleared_by_admin - ledger.pending - needed) & there


def drift_of_lease(host: Host, lease: Lease) -> Iterator[WarningText]:
    """What keeps the guest of ``lease``, which is held, from its queues, or will."""
    there = host.mdevs.get(lease.mdev)
    if there is None:
        yield f"its mediated device {lease.mdev} is gone"
    elif there != lease.matrix:
        yield f"its mediated device {lease.mdev} holds {there} instead of {lease.matrix}"
    for driver, queues in sorted(_strayed(host, lease.matrix).items()):
        yield f"{some_queues(queues)} {'is' if len(queues) == 1 else 'are'} {driver}"
    if lease.freed_by == BY_OVERRIDES:
        lost = [q for q in lease.matrix.queues() if host.overrides.get(q) != VFIO_DRIVER]
        if lost:
            yield f"driver_override of {some_queues(lost)} must be {VFIO_DRIVER} for it and is not"
        return
    mask, keeps, now = (
        ("apmask", lease.matrix.adapters, host.apmask)
        if lease.freed_by == BY_ADAPTERS
        else ("aqmask", lease.matrix.domains, host.aqmask)
    )
    # A bit that somebody has set does not affect the guest while the other mask keeps its queues.
    if keeps & now and any(map(host.masks_give_host, lease.matrix.queues())):
        yield f"{mask_bits(mask, keeps & now)} must be clear for it and is set"


def _strayed(host: Host, matrix: Matrix) -> dict[str, list[Apqn]]:
    """Return the leased queues that vfio_ap does not have, by their present driver."""
    strayed: dict[str, list[Apqn]] = {}
    for queue in matrix.queues():
        driver = host.drivers.get(queue)
        if driver != VFIO_DRIVER:
            bound = f"bound to {driver or 'no driver'} instead of vfio_ap"
            strayed.setdefault("not on this host" if driver is None else bound, []).append(queue)
    return strayed


def _of_pending_returns(host: Host, ledger: Ledger, *, deferred: bool) -> Iterator[WarningText]:
    restored = overrides_returned_by_others(ledger, host)
    if restored:
        yield (
            f"driver_override of {some_queues(restored)} is recorded as a pending return, but is restored "
            "already"
        )
    for mask, ids in returned_by_others(ledger, host).named():
        yield f"{mask_bits(mask, ids)} is recorded as a pending return, but is set already"
    if deferred:
        return
    mdevs = list(host.mdevs.values())
    restorable = [
        queue
        for queue, before in returnable_overrides(ledger, host, mdevs)
        if any(True for _ in restore_steps(queue, before, host))
    ]
    if restorable:
        yield (
            f"driver_override of {some_queues(restorable)} is a pending return that is due: 'reconcile' "
            "restores it"
        )
    for mask, ids in returnable(ledger, host, mdevs).named():
        yield f"{mask_bits(mask, ids)} is a pending return that is due: 'reconcile' sets it"

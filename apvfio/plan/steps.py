# SPDX-License-Identifier: Apache-2.0
"""The steps that bring a host to what the ledger says.

Starting and stopping a guest are the same: change the ledger, then take the steps that are due. If they are
taken twice, there are none the second time.
"""

from __future__ import annotations

from apvfio.model.host import AP_MDEVS, BUS, HOST_DRIVER, UNBOUND, VFIO_DRIVER, Host, MaskBits
from apvfio.model.ids import NO_IDS, format_change, union
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES, CHANGING, HELD, STARTING, Ledger
from apvfio.model.matrix import Matrix
from apvfio.model.step import ASSIGN, CREATE, FREE, OFFLINE, PROBE, REMOVE, RETURN, Step
from apvfio.plan.overrides import (
    override_free_steps,
    override_return_steps,
    overrides_returned_by_others,
    returnable_overrides,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn

_KINDS = ("adapter", "domain", "control_domain")


def returned_by_others(ledger: Ledger, host: Host) -> MaskBits:
    """Return the pending returns that another program has made: bits pending, needed by nobody, and set."""
    return (ledger.pending & host.masks) - ledger.needed_bits()


def pending_steps(ledger: Ledger, host: Host) -> list[Step]:
    """The steps due, in the order to take them: removals, returns, frees, creations."""
    removals = sorted(_going(ledger, host))
    remaining = remaining_matrices(ledger, host)
    returns = returnable(ledger, host, remaining)
    return [
        *(Step(REMOVE, AP_MDEVS.remove(uuid), "1") for uuid in removals),
        *mask_steps(RETURN, returns),
        *override_return_steps(ledger, host, remaining),
        *_back_offline(ledger, host, returns),
        *mask_steps(FREE, _to_clear(ledger, host)),
        *override_free_steps(ledger.as_committed(), host),
        *_rebinds(ledger, host),
        *(step for lease in ledger.leases.values() for step in creation_steps(lease, host)),
    ]


def remaining_matrices(ledger: Ledger, host: Host) -> list[Matrix]:
    """What the mdevs hold that are not removed."""
    going = _going(ledger, host)
    return [matrix for uuid, matrix in host.mdevs.items() if uuid not in going]


def with_retaken(ledger: Ledger, host: Host) -> Ledger:
    """Return the ledger with set bits that leases need as pending: they will be cleared again."""
    needed = ledger.as_committed().needed_queues() & host.drivers.keys() - ledger.overrides.keys()
    before = {queue: host.overrides.get(queue, "") for queue in needed}
    lost = {queue: override for queue, override in before.items() if override != VFIO_DRIVER}
    return ledger._replace(
        pending=ledger.pending | _to_clear(ledger, host),
        overrides={**ledger.overrides, **lost},
    )


def with_relied_on_mask(ledger: Ledger, host: Host) -> Ledger:
    """The ledger in which every guest that runs relies on the mask that keeps its queues from the host.

    Before 7.0 an administrator may set a bit that a guest relies on, if the other mask keeps all its
    queues (vops:vfio_ap_mdev_resource_in_use). From then on the guest needs the bits of that one.
    """
    relying = []
    for lease in ledger.leases.values():
        if lease.state != HELD or lease.freed_by == BY_OVERRIDES:
            continue
        kept = {
            BY_ADAPTERS: not lease.matrix.adapters & host.apmask,
            BY_DOMAINS: not lease.matrix.domains & host.aqmask,
        }
        if any(kept.values()) and not kept[lease.freed_by]:
            relying.append(lease._replace(freed_by=next(name for name in kept if kept[name])))
    return ledger.with_leases(relying)


def _to_clear(ledger: Ledger, host: Host) -> MaskBits:
    """Return the bits that are set and that starting or changing guests need clear.

    Once a device holds its queues, no bit can be set that would give one of them to the host
    (vops:vfio_ap_mdev_resource_in_use). If a bit was set nevertheless, the administrator has set it: the
    other mask keeps the guest's queues, and clearing the bit would take collateral queues.
    """
    aims = ledger.as_committed().leases.items()
    starting = {mdev: lease for mdev, lease in aims if lease.state in (STARTING, CHANGING)}
    return ledger._replace(leases=starting).needed_bits() & host.masks


def _going(ledger: Ledger, host: Host) -> set[str]:
    """The mdevs to remove: of ending leases, and of guests that start again with another matrix."""
    starting = [lease for lease in ledger.leases.values() if lease.state == STARTING and lease.created]
    outdated = {lease.mdev for lease in starting if host.mdevs.get(lease.mdev) != lease.matrix}
    return (ledger.mdevs_to_remove() | outdated) & host.mdevs.keys()


def without_returned(ledger: Ledger, host: Host) -> Ledger:
    """Return the ledger without returns that are made, by anybody, or whose queues no longer exist.

    Claims whose device exists and holds all its queues are removed, too.
    """
    gone = overrides_returned_by_others(ledger, host)
    return ledger.without_overrides(gone)._replace(
        pending=ledger.pending - returned_by_others(ledger, host),
        offline_queues=ledger.offline_queues & host.drivers.keys(),
        claims={k: v for k, v in ledger.claims.items() if host.mdevs.get(k) != v.matrix},
    )


def returnable(ledger: Ledger, host: Host, mdevs: Iterable[Matrix]) -> MaskBits:
    """The pending bits that can go back now: needed by no lease, and not refused because of ``mdevs``.

    7.x refuses a bit while any mdev holds the id. Before, it refuses only if a queue of an mdev
    would become the host's (vops:vfio_ap_mdev_resource_in_use and its callers).
    """
    bits = ledger.pending - ledger.needed_bits() - host.masks
    holding = [held for held in mdevs if not held.empty]
    if host.abilities.strict_return:
        return bits - MaskBits(
            union(held.adapters for held in holding), union(held.domains for held in holding)
        )
    # What a set bit gives to the host of a device cannot follow whatever the other mask becomes.
    for held in holding:
        if held.adapters & host.apmask:
            bits -= MaskBits(NO_IDS, held.domains)
    # One mask after the other is written: of two bits that may only go back one by one, that of aqmask does.
    for held in holding:
        if held.domains & (host.aqmask | bits.aqmask):
            bits -= MaskBits(held.adapters, NO_IDS)
    return bits


def with_all_returned(ledger: Ledger, host: Host) -> Ledger:
    """The ledger when all that can be returned now has been."""
    remaining = remaining_matrices(ledger, host)
    overrides = {queue for queue, _ in returnable_overrides(ledger, host, remaining)}
    bits = returnable(ledger, host, remaining)
    return ledger.without_overrides(overrides)._replace(pending=ledger.pending - bits)


def after_returns(ledger: Ledger, host: Host) -> tuple[Ledger, Host]:
    """The ledger and the host when all that can be returned now has been, the devices that go removed.

    What other devices keep from the host stays pending, as with `pending_steps`.
    """
    left = with_all_returned(ledger, host)
    bits = ledger.pending - left.pending
    returned = {queue: before for queue, before in ledger.overrides.items() if queue not in left.overrides}
    overrides = {queue: driver for queue, driver in {**host.overrides, **returned}.items() if driver}
    to_remove = ledger.mdevs_to_remove()
    after = host._replace(
        apmask=host.apmask | bits.apmask,
        aqmask=host.aqmask | bits.aqmask,
        overrides=overrides,
        mdevs={uuid: matrix for uuid, matrix in host.mdevs.items() if uuid not in to_remove},
    )
    drivers = {
        queue: HOST_DRIVER
        if driver == VFIO_DRIVER and after.masks_give_host(queue) and overrides.get(queue) != VFIO_DRIVER
        else driver
        for queue, driver in host.drivers.items()
    }
    return left, after._replace(drivers=drivers)


def after_stop(ledger: Ledger, host: Host, guest_uuid: str) -> tuple[Ledger, Host]:
    """The ledger and the host when the guest ``guest_uuid`` has stopped, for planning its next start."""
    ledger = ledger.with_ending(guest_uuid)
    left, after = after_returns(ledger, host)
    ended = [lease.mdev for lease in ledger.of_guest(guest_uuid)]
    return left.without_leases(*ended), after


def _back_offline(ledger: Ledger, host: Host, returns: MaskBits) -> Iterator[Step]:
    """A queue the administrator had set offline comes back online (zq:zcrypt_queue_register): undo that."""
    needed, queues = ledger.needed_bits(), ledger.needed_queues()
    apmask = (host.apmask | returns.apmask) - needed.apmask
    aqmask = (host.aqmask | returns.aqmask) - needed.aqmask
    for queue in sorted(queue for queue in ledger.offline_queues if queue in host.drivers):
        override = ledger.overrides.get(queue, host.overrides.get(queue, ""))
        if queue in queues or override not in ("", HOST_DRIVER):
            continue
        if queue.adapter in apmask and queue.domain in aqmask:
            if host.drivers[queue] == UNBOUND:
                yield Step(PROBE, f"{BUS}/drivers_probe", str(queue))
            yield Step(OFFLINE, offline_path(queue), "0")


def offline_path(queue: Apqn) -> str:
    """The attribute that takes a queue off the host's work, below /sys; only while the host has it."""
    return f"{BUS}/devices/{queue}/online"


def mask_steps(op: str, bits: MaskBits) -> Iterator[Step]:
    """The writes that clear (`FREE`) or set (`RETURN`) ``bits``, those of apmask and those of aqmask."""
    for name, ids in bits.named():
        value = format_change(ids) if op == FREE else format_change(NO_IDS, ids)
        yield Step(op, f"{BUS}/{name}", value)


def _rebinds(ledger: Ledger, host: Host) -> Iterator[Step]:
    """Return queues of running guests that somebody has unbound: bound again, they are plugged in again."""
    if UNBOUND not in host.drivers.values():
        return  # as nearly always, and there may be many leases
    for lease in ledger.active_leases():
        if lease.state != HELD or lease.freed_by == BY_OVERRIDES:
            continue
        for queue in lease.matrix.queues():
            if host.drivers.get(queue) == UNBOUND and not host.masks_give_host(queue):
                yield Step(PROBE, f"{BUS}/drivers_probe", str(queue))


def creation_steps(lease: Lease, host: Host) -> Iterator[Step]:
    """Return the steps that create the device of a starting guest; none if it exists already."""
    if lease.state == STARTING and lease.created and host.mdevs.get(lease.mdev) != lease.matrix:
        yield Step(CREATE, AP_MDEVS.create, lease.mdev)
        yield from _assignments(lease.mdev, lease.matrix, host)


def reassignment_steps(lease: Lease, host: Host) -> Iterator[Step]:
    """Return the steps that give a running guest's device another matrix; none if it has that already.

    They are never `pending_steps`: the caller that changes the guest takes them, or a rollback does. What is
    given up is unassigned first, so that nothing is ever assigned that is in neither of the two matrices.
    """
    there = host.mdevs.get(lease.mdev)
    if lease.state != CHANGING or there is None or there == lease.matrix:
        return
    if not host.abilities.ap_config:
        directory = AP_MDEVS.device(lease.mdev)
        for kind, ids, wanted in zip(_KINDS, there, lease.matrix):
            for i in ids - wanted:
                yield Step(ASSIGN, f"{directory}/unassign_{kind}", f"0x{i:x}")
    pairs = zip(lease.matrix, there)
    new = lease.matrix if host.abilities.ap_config else Matrix(*(ids - had for ids, had in pairs))
    yield from _assignments(lease.mdev, new, host)


def _assignments(mdev: str, matrix: Matrix, host: Host) -> Iterator[Step]:
    directory = AP_MDEVS.device(mdev)
    if host.abilities.ap_config:
        yield Step(ASSIGN, f"{directory}/ap_config", matrix.as_ap_config())
        return
    for kind, ids in zip(_KINDS, matrix):
        for i in ids:
            yield Step(ASSIGN, f"{directory}/assign_{kind}", f"0x{i:x}")

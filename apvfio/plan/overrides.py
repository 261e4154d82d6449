# SPDX-License-Identifier: Apache-2.0
"""Move single queues with ``driver_override`` (Linux 6.19 and later): without collateral queues.

A write to ``driver_override`` alone moves nothing: the queue is unbound, then probed. The override is written
first, so that no other tool can bind the queue by the old rule in between.
"""

from __future__ import annotations

from apvfio.model.host import BUS, HOST_DRIVER, UNBOUND, VFIO_DRIVER, MaskBits
from apvfio.model.ledger import BY_OVERRIDES
from apvfio.model.matrix import covering
from apvfio.model.step import FREE, PROBE, RETURN, UNBIND, Step
from apvfio.plan.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Matrix

OVERRIDE_OPTION = Option(name=BY_OVERRIDES, clear=MaskBits(), collateral=(), reserved=(), stuck=0, leans_on=0)
"""The only option with overrides, which has no collateral queues."""


def to_override(matrix: Matrix, host: Host) -> dict[Apqn, str]:
    """Return the queues of ``matrix`` whose override must be set, with its present value."""
    now = {queue: host.overrides.get(queue, "") for queue in matrix.queues()}
    return {queue: override for queue, override in now.items() if override != VFIO_DRIVER}


def override_free_steps(ledger: Ledger, host: Host) -> Iterator[Step]:
    """Return the steps that bind the queues of leases to vfio_ap."""
    for queue in sorted(ledger.needed_queues() & host.drivers.keys()):
        if host.overrides.get(queue) != VFIO_DRIVER:
            yield Step(FREE, override_path(queue), VFIO_DRIVER)
        yield from _rebind(queue, host, VFIO_DRIVER)


def override_return_steps(ledger: Ledger, host: Host, staying: list[Matrix]) -> Iterator[Step]:
    """The steps that give back the queues that no lease needs and no mdev holds."""
    for queue, before in returnable_overrides(ledger, host, staying):
        yield from restore_steps(queue, before, host)


def returnable_overrides(ledger: Ledger, host: Host, staying: list[Matrix]) -> Iterator[tuple[Apqn, str]]:
    """Return the pending overrides that can be restored now, with their former values."""
    if not ledger.overrides:
        return
    needed, held = ledger.needed_queues(), covering(staying)
    for queue, before in sorted(ledger.overrides.items()):
        if queue not in needed and not held(queue) and _is_ours(queue, before, host):
            yield queue, before


def restore_steps(queue: Apqn, before: str, host: Host) -> Iterator[Step]:
    """The steps that set the override of ``queue`` to ``before`` again and bind it accordingly."""
    if host.overrides.get(queue, "") != before:
        # The kernel takes a newline for "no override"; an empty write never reaches it.
        yield Step(RETURN, override_path(queue), before or "\n")
    yield from _rebind(queue, host, before or HOST_DRIVER)


def overrides_returned_by_others(ledger: Ledger, host: Host) -> set[Apqn]:
    """Pending overrides that no lease needs and that are no longer ours: restored, changed, or gone."""
    idle = ledger.overrides.keys() - ledger.needed_queues()
    return {queue for queue in idle if not _is_ours(queue, ledger.overrides[queue], host)}


def _is_ours(queue: Apqn, before: str, host: Host) -> bool:
    """Return whether ``queue``, whose override was ``before``, is as apvfio made it, or half returned."""
    now = host.overrides.get(queue, "")
    if queue not in host.drivers or now not in (VFIO_DRIVER, before):
        return False
    if now == VFIO_DRIVER:
        return True
    # Without an override the masks decide the owner, and somebody has cleared a bit meanwhile.
    if not before and not host.masks_give_host(queue):
        return False
    # An override that names no driver at all parks its queue unbound.
    parked = () if before in ("", HOST_DRIVER) else (UNBOUND,)
    return host.drivers[queue] not in (before or HOST_DRIVER, *parked)


def override_path(queue: Apqn) -> str:
    """The attribute, below /sys."""
    return f"{BUS}/devices/{queue}/driver_override"


def _rebind(queue: Apqn, host: Host, wanted: str) -> Iterator[Step]:
    bound = host.drivers[queue]
    if bound == wanted:
        return
    if bound != UNBOUND:
        yield Step(UNBIND, f"{BUS}/drivers/{bound}/unbind", str(queue))
    yield Step(PROBE, f"{BUS}/drivers_probe", str(queue))

# SPDX-License-Identifier: Apache-2.0
"""What a drain does to the host apart from moving guests: it clears overrides that nobody needs.

A queue that disappears with an override leaves the kernel's count of overrides too high. The kernel then
refuses every mask change until the next boot (bus:apmask_store, que:ap_queue_device_release).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.matrix import covering
from apvfio.plan.overrides import restore_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Area
    from apvfio.model.step import Step


def idle_overrides(area: Area, host: Host, ledger: Ledger) -> dict[Apqn, str]:
    """Return the overrides of queues of ``area`` that no guest or mediated device needs and others have set.

    Those that apvfio has set are pending returns, which a reconcile makes.
    """
    held = _held(host, ledger)
    return {
        queue: driver
        for queue, driver in sorted(host.overrides.items())
        if area.holds(queue) and queue not in ledger.overrides and not held(queue)
    }


def clear_steps(overrides: Iterable[Apqn], host: Host, ledger: Ledger) -> list[Step]:
    """Return the steps that clear ``overrides`` and give the queues to the host; none if that is done."""
    held = _held(host, ledger)
    there = [queue for queue in sorted(overrides) if queue in host.drivers and not held(queue)]
    return [step for queue in there for step in restore_steps(queue, "", host)]


def set_again_steps(overrides: Mapping[Apqn, str], host: Host, ledger: Ledger) -> list[Step]:
    """Return the steps that set ``overrides`` again for queues that exist and have no other use."""
    held = _held(host, ledger)
    return [
        step
        for queue, driver in sorted(overrides.items())
        if queue in host.drivers and queue not in ledger.overrides and not held(queue)
        if host.masks_give_host(queue) and host.overrides.get(queue, driver) == driver
        for step in restore_steps(queue, driver, host)
    ]


def _held(host: Host, ledger: Ledger) -> Callable[[Apqn], bool]:
    to_remove = ledger.mdevs_to_remove()
    devices = [matrix for uuid, matrix in host.mdevs.items() if uuid not in to_remove]
    return covering([*devices, *(held.matrix for held in ledger.leases_and_claims())])

# SPDX-License-Identifier: Apache-2.0
"""Which of the two mechanisms decides the drivers of a host's queues."""

from __future__ import annotations

from apvfio.model.errors import ConflictError, HostError
from apvfio.model.host import ALL_BITS, HOST_DRIVER, MASKS, OVERRIDES, VFIO_DRIVER
from apvfio.model.matrix import covering
from apvfio.model.step import RETURN, Step
from apvfio.model.text import mask_bits, some_queues
from apvfio.plan.overrides import restore_steps
from apvfio.plan.steps import mask_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.policy import Policy


def mechanism_of(host: Host, ledger: Ledger, policy: Policy) -> str:
    """Return the mechanism: that in use, else the chosen one, else the policy's, else masks.

    Masks are the default because chzdev, ap-check and therefore mdevctl know only masks.
    """
    return host.mechanism or ledger.mechanism or policy.mechanism or MASKS


def mechanism_reason(host: Host, ledger: Ledger, policy: Policy) -> str:
    """What decides the mechanism, in words."""
    if host.overrides:
        return (
            f"driver_override is set for {some_queues(host.overrides)}, and while any is set, the kernel "
            "refuses mask changes"
        )
    if not host.abilities.override:
        return "this kernel has no driver_override for AP queues"
    if host.mechanism == MASKS:
        cleared = " and ".join(mask_bits(name, ids) for name, ids in (ALL_BITS - host.masks).named())
        return f"clear mask bits: {cleared}; while any is clear, the kernel refuses driver_override"
    if ledger.mechanism:
        return "chosen with 'apvfio mechanism' for this boot; nothing is in use"
    if policy.mechanism:
        return "the policy prefers it; nothing is in use"
    return "nothing is in use; chzdev, mdevctl and ap-check know masks only"


def steps_to_mechanism(mechanism: str, host: Host) -> list[Step]:
    """The steps that open ``host`` for ``mechanism``; ConflictError while an AP device stands in the way.

    Where it is open, queues are returned that an interrupted change of the mechanism left.
    """
    if mechanism == OVERRIDES and not host.abilities.override:
        raise HostError("this kernel has no driver_override for AP queues.", remedy="Stay with masks.")
    if host.mechanism == mechanism:
        return []
    if host.mechanism is None:
        return list(_left_behind(host))
    if host.mdevs:
        raise ConflictError(
            f"the mediated device {min(host.mdevs)} exists, and the mechanism can be switched only while "
            "there is none.",
            remedy="Stop all guests with AP queues and remove their devices first.",
        )
    if mechanism == OVERRIDES:
        return list(mask_steps(RETURN, ALL_BITS - host.masks))
    cleared = (step for queue in sorted(host.overrides) for step in restore_steps(queue, "", host))
    return [*cleared, *_left_behind(host)]


def host_after_switch(mechanism: str, host: Host) -> Host:
    """The host as it will be after the `steps_to_mechanism`, for a preview."""
    if host.mechanism == mechanism:
        return host
    held = covering(host.mdevs.values())
    by_masks = host.mechanism == MASKS
    drivers = {
        queue: driver if held(queue) or (by_masks and driver != VFIO_DRIVER) else HOST_DRIVER
        for queue, driver in host.drivers.items()
    }
    return host._replace(apmask=ALL_BITS.apmask, aqmask=ALL_BITS.aqmask, overrides={}, drivers=drivers)


def _left_behind(host: Host) -> Iterator[Step]:
    held = covering(host.mdevs.values())
    for queue in sorted(host.drivers.keys() - host.overrides.keys()):
        if host.drivers[queue] != HOST_DRIVER and not held(queue):
            yield from restore_steps(queue, "", host)

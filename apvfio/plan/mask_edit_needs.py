# SPDX-License-Identifier: Apache-2.0
"""What a change of the masks takes that the host needs itself: the policy's [keep] and [busy].

An administrator's slip takes keys from the host's own volumes as surely as a guest's start does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import HOST_DRIVER
from apvfio.model.policy import IGNORE, Busy, Policy
from apvfio.plan.keep_and_busy import objections, require_none_refused
from apvfio.plan.mask_edit_checks import UNRESERVE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.host import Usage
    from apvfio.model.matrix import Apqn
    from apvfio.model.text import WarningText
    from apvfio.plan.mask_edit import MaskChange, MasksBefore


class Loss(NamedTuple):
    """Queues that somebody loses."""

    whom: str
    queues: tuple[Apqn, ...]
    policy: Policy
    """What of the policy has a say in it."""


def losses(before: MasksBefore, change: MaskChange) -> Iterator[Loss]:
    """What the host loses now, and what it will not have after a boot."""
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
    """What is to be warned of, in sentences; PolicyError, naming the queues and why, for what is refused."""
    found = list(objections(loss.queues, loss.policy, facts))
    require_none_refused(found, f"{loss.whom} would lose ", UNRESERVE)
    return [f"{loss.whom} loses {objection.why}" for objection in found]

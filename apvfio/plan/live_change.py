# SPDX-License-Identifier: Apache-2.0
"""The plan to change the queues of a running guest: hot plug and unplug of adapters and domains.

The device stays, and so do the queues in both matrices. Until the commit, the queues that the guest gives up
remain its own, so that a rollback always has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import ApvfioError, ConflictError
from apvfio.model.host import Host, MaskBits
from apvfio.model.ledger import CHANGING, HELD, Lease, LeaseBefore, Ledger
from apvfio.plan.availability import require_no_rival, require_unreserved
from apvfio.plan.keep_and_busy import NOTHING_KNOWN, preference_reason
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.presence import require_there
from apvfio.plan.start_plan import Plan, possible_options, require_vfio_ap, runner_up, warnings, with_taken
from apvfio.plan.steps import pending_steps, reassignment_steps

if TYPE_CHECKING:
    from apvfio.model.host import Usage
    from apvfio.model.matrix import Apqn
    from apvfio.model.policy import Policy
    from apvfio.model.process import Process
    from apvfio.model.request import Request
    from apvfio.plan.options import Option

_NOT_UNDONE = (
    "if the change were undone, a mask bit that it clears could not be set again while the guest runs"
)


class LivePlan(NamedTuple):
    """What changing a guest that runs will do."""

    plan: Plan
    before: Lease

    @property
    def gained(self) -> list[Apqn]:
        """The queues that the guest gets."""
        return [queue for queue in self.plan.request.matrix.queues() if not self.before.matrix.holds(queue)]

    @property
    def given_up(self) -> list[Apqn]:
        """The queues that the guest loses."""
        return [queue for queue in self.before.matrix.queues() if not self.plan.request.matrix.holds(queue)]

    @property
    def idle(self) -> bool:
        """Return whether the guest has what it requests."""
        return self.plan.request.matrix == self.before.matrix

    def as_json(self) -> dict[str, object]:
        """The change as ``guest set --live --json`` prints it: the plan's keys and what comes and goes."""
        return {
            **self.plan.as_json(),
            "gained": [str(queue) for queue in self.gained],
            "given_up": [str(queue) for queue in self.given_up],
        }


def held_lease(request: Request, ledger: Ledger) -> Lease:
    """The lease to change; ConflictError if the guest has none, or one that cannot be changed."""
    for lease in ledger.of_guest(request.guest_uuid):
        if lease.mdev != request.mdev:
            continue
        if lease.state != HELD:
            raise ConflictError(
                f"another call is changing its queues (lease state: {lease.state}).",
                guest=request.guest,
                remedy="Run 'apvfio reconcile', which ends what was interrupted, and try again.",
            )
        if not lease.created:
            raise ConflictError(
                f"apvfio did not create its mediated device {lease.mdev}, and does not change it.",
                guest=request.guest,
                remedy="Change the device where it was made, or stop the guest and remove it.",
            )
        return lease
    raise ConflictError(
        f"it runs, but holds no queues through mediated device {request.mdev}.",
        guest=request.guest,
        remedy="See 'apvfio status'.",
    )


def make_change(
    request: Request,
    host: Host,
    ledger: Ledger,
    policy: Policy,
    *,
    changer: Process,
    facts: Usage = NOTHING_KNOWN,
) -> LivePlan:
    """Plan the cheapest change from the guest's queues to ``request``; the errors are a start's.

    The policy applies to the queues that the guest gets; those that it has it keeps, even if they are
    reserved by now.
    """
    lease = held_lease(request, ledger)
    try:
        alone = ledger.without_leases(lease.mdev)
        options = _choose(request, host, alone, policy, facts=facts, lease=lease)
    except ApvfioError as error:
        raise error.for_guest(request.guest) from None
    chosen = options[0]
    before = LeaseBefore(lease.matrix, lease.freed_by, changer)
    changed = lease._replace(matrix=request.matrix, freed_by=chosen.name, state=CHANGING, before=before)
    after = with_taken(ledger, changed, chosen, host)
    plan = Plan(
        request=request,
        mechanism=mechanism_of(host, ledger, policy),
        chosen=chosen,
        runner_up=runner_up(options),
        ledger=after,
        steps=[*pending_steps(after, host), *reassignment_steps(changed, host)],
        warnings=tuple(warnings(request, chosen, host, policy)),
        preference_reason=preference_reason(options, _NOT_UNDONE),
    )
    return LivePlan(plan, lease)


def _choose(
    request: Request, host: Host, ledger: Ledger, policy: Policy, *, facts: Usage, lease: Lease
) -> list[Option]:
    """The options, the best first; ``ledger`` is without the guest's own lease."""
    require_vfio_ap(host)
    require_there(request, host, over_provisioning=policy.over_provisioning)
    require_unreserved((queue for queue in request.matrix.queues() if not lease.matrix.holds(queue)), policy)
    require_no_rival(request, host, ledger)

    def price(option: Option) -> tuple[object, ...]:
        changes_hold = option.name != lease.freed_by
        return option.closed, _for_ever(option, lease, host), option.cost[:2], changes_hold

    return sorted(possible_options(request, host, ledger, policy, facts), key=price)


def _for_ever(option: Option, lease: Lease, host: Host) -> bool:
    """Whether ``option`` clears a bit that could not go back before the guest ends, were the change undone.

    Only the option that is not the guest's own so far can: its ids' bits in the other mask may be set still.
    """
    had = lease.matrix
    return host.abilities.strict_return and bool(option.clear & MaskBits(had.adapters, had.domains))

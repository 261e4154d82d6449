# SPDX-License-Identifier: Apache-2.0
"""The plan for one guest: whether it may have its request, by which option, at what cost."""

from __future__ import annotations

from apvfio.model.errors import ApvfioError, HostError
from apvfio.model.host import AP_MDEVS, HOST_DRIVER, OVERRIDES, VFIO_DRIVER, Host
from apvfio.model.ids import format_change
from apvfio.model.ledger import BY_OVERRIDES, STARTING, Lease, Ledger
from apvfio.model.text import count_queues, some_queues
from apvfio.model.typed import NamedTuple
from apvfio.plan.availability import others, require_free, require_no_strange_override, require_unreserved
from apvfio.plan.keep_and_busy import (
    NOTHING_KNOWN,
    preference_reason,
    require_may_be_taken,
    require_option_open,
    with_objections,
)
from apvfio.plan.keep_and_busy import warnings as warnings_of
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.options import Option, free_options
from apvfio.plan.overrides import OVERRIDE_OPTION, to_override
from apvfio.plan.partial_return import limit_returns, returning_queues
from apvfio.plan.presence import absent_control_domains, absent_queues, require_all_there, require_there
from apvfio.plan.steps import pending_steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from apvfio.model.host import Usage
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.model.step import Step
    from apvfio.model.text import WarningText

ALREADY_FREE = "none"


class Plan(NamedTuple):
    """What starting a guest will do to the host, decided and explained."""

    request: Request
    mechanism: str
    chosen: Option
    runner_up: Option | None
    ledger: Ledger
    """The ledger with the guest's lease: what should be."""
    steps: list[Step]
    warnings: tuple[str, ...]
    preference_reason: str = ""
    """Why this option is chosen though another costs the host fewer queues, in a clause; '' if none does."""
    deferred: bool = False
    """Whether slow returns that are pending are left to the systemd unit."""
    keeps: Matrix | None = None
    """What the guest has until it stops if it runs: then the plan is that of its next start."""
    keys: Mapping[Apqn, SeenKeys] = {}
    """The known master keys of the queues, in a preview."""

    @property
    def lease(self) -> Lease:
        """The lease that the plan gives."""
        return self.ledger.leases[self.request.mdev]

    def taken(self, host: Host) -> list[Apqn]:
        """The queues that leave the host's drivers, requested or not."""
        asked = [q for q in self.request.matrix.queues() if host.drivers.get(q) == HOST_DRIVER]
        return [*asked, *self.chosen.collateral]

    def expected(self, host: Host) -> Host:
        """``host`` as it will be when the guest has started, for planning the next."""
        clear, matrix = self.chosen.clear, self.request.matrix
        after = host._replace(
            apmask=host.apmask - clear.apmask,
            aqmask=host.aqmask - clear.aqmask,
            mdevs={**host.mdevs, self.request.mdev: matrix},
        )
        gone = {queue for queue in host.drivers if not after.masks_give_host(queue)}
        if self.mechanism == OVERRIDES:
            gone = {queue for queue in matrix.queues() if queue in host.drivers}
            after = after._replace(overrides={**host.overrides, **dict.fromkeys(gone, VFIO_DRIVER)})
        return after._replace(
            drivers={q: VFIO_DRIVER if q in gone else driver for q, driver in host.drivers.items()}
        )

    @property
    def freed_by(self) -> str:
        """``adapters``, ``domains``, or ``none`` when all its queues are free already."""
        return self.chosen.name if self.chosen.clear else ALREADY_FREE

    def chzdev(self) -> list[str]:
        """The mask changes as the chzdev command a person would type."""
        if not self.chosen.clear:
            return []
        words = [f"{name}={format_change(ids)}" for name, ids in self.chosen.clear.named()]
        return [" ".join(["chzdev --type ap --active", *words])]

    def as_json(self) -> dict[str, object]:
        """The plan as ``plan --json`` prints it."""
        runner_up = self.runner_up
        return {
            "guest": self.request.guest,
            "secure_execution": self.request.secure,
            "mdev": self.request.mdev,
            "queues": [str(queue) for queue in self.request.matrix.queues()],
            "mechanism": self.mechanism,
            "freed_by": self.freed_by,
            "preference_reason": self.preference_reason or None,
            "collateral": [str(queue) for queue in self.chosen.collateral],
            "alternative": runner_up
            and {"freed_by": runner_up.name, "collateral": [str(queue) for queue in runner_up.collateral]},
            "steps": [step.as_json() for step in self.steps],
            "deferred": self.deferred,
            "chzdev": self.chzdev(),
            "master_keys": {str(queue): keys.as_json() for queue, keys in self.keys.items()},
            "warnings": list(self.warnings),
            "running": self.keeps is not None,
            "keeps": [str(queue) for queue in self.keeps.queues()] if self.keeps else [],
        }


def make_plan(
    request: Request,
    host: Host,
    ledger: Ledger,
    policy: Policy,
    facts: Usage = NOTHING_KNOWN,
    *,
    defer: bool = False,
) -> Plan:
    """Return the cheapest plan that ``host`` and ``policy`` allow; an error names guest and queues.

    With ``defer``, returns that would take the kernel long, because of resets, are left to the systemd unit.

    A guest that starts is not running: a lease that it still has from an earlier run ends.
    """
    ledger = ledger.with_ending(request.guest_uuid)
    try:
        _require_possible(request, host, policy)
        made = require_free(request, host, ledger)
        options = possible_options(request, host, ledger, policy, facts)
        if options != [OVERRIDE_OPTION]:
            options = _by_choice(options, request, policy)
    except ApvfioError as error:
        raise error.for_guest(request.guest) from None
    chosen = options[0]
    lease = Lease(
        guest=request.guest,
        uuid=request.guest_uuid,
        mdev=request.mdev,
        matrix=request.matrix,
        freed_by=chosen.name,
        state=STARTING,
        created=made,
        secure=request.secure,
    )
    after = with_taken(ledger, lease, chosen, host)
    deferred = defer and bool(returning_queues(after, host))
    return Plan(
        request=request,
        mechanism=mechanism_of(host, ledger, policy),
        chosen=chosen,
        runner_up=runner_up(options),
        ledger=after,
        steps=pending_steps(limit_returns(after, host, 0) if deferred else after, host),
        warnings=tuple(warnings(request, chosen, host, policy)),
        preference_reason=preference_reason(options, _preference(request, policy)),
        deferred=deferred,
    )


def possible_options(
    request: Request, host: Host, ledger: Ledger, policy: Policy, facts: Usage
) -> list[Option]:
    """The options to free the queues, open ones first, then the cheaper; the errors are a plan's."""
    if mechanism_of(host, ledger, policy) == OVERRIDES:
        require_all_there(request.matrix, host)
        require_no_strange_override(request.matrix, host)
        options = [OVERRIDE_OPTION]
    else:
        options = free_options(request.matrix, others(request, host, ledger), host, ledger.pending, policy)
    return with_objections(options, request.matrix, host, policy, facts)


def with_taken(ledger: Ledger, lease: Lease, chosen: Option, host: Host) -> Ledger:
    """The ledger with ``lease``, in which all that ``chosen`` changes is pending."""
    overrides = to_override(lease.matrix, host) if chosen.name == BY_OVERRIDES else {}
    return ledger.with_lease(lease)._replace(
        pending=ledger.pending | chosen.clear, overrides={**overrides, **ledger.overrides}
    )


def runner_up(options: Sequence[Option]) -> Option | None:
    """The next best option, if anything has to be cleared and it is open."""
    return next((option for option in options[1:] if options[0].clear and not option.closed), None)


def check_request(request: Request, host: Host, policy: Policy, facts: Usage = NOTHING_KNOWN) -> None:
    """That ``host`` could give the guest its queues if nobody else had them; the error names the guest."""
    try:
        _require_possible(request, host, policy)
        require_may_be_taken(request.matrix, host, policy, facts)
    except ApvfioError as error:
        raise error.for_guest(request.guest) from None


def _require_possible(request: Request, host: Host, policy: Policy) -> None:
    require_vfio_ap(host)
    require_there(request, host, over_provisioning=policy.over_provisioning)
    require_unreserved(request.matrix.queues(), policy)


def require_vfio_ap(host: Host) -> None:
    """HostError unless the driver is loaded."""
    if not host.vfio_ap:
        raise HostError(
            f"the vfio_ap driver is not loaded (/sys/{AP_MDEVS.parent} does not exist).",
            remedy="Load it with 'modprobe vfio_ap'.",
        )


def _by_choice(both: list[Option], request: Request, policy: Policy) -> list[Option]:
    """The policy's preference first if it is open, else the option that the annotation names, if it may."""
    if policy.prefer:
        return sorted(both, key=lambda option: (option.closed, option.name != policy.prefer))
    chosen = sorted(both, key=lambda option: option.name != request.free_by) if request.free_by else both
    require_option_open(chosen[0])
    return chosen


def _preference(request: Request, policy: Policy) -> str:
    if policy.prefer:
        return f"the policy prefers to free {policy.prefer}"
    return f"its annotation asks to free {request.free_by}"


def warnings(request: Request, option: Option, host: Host, policy: Policy) -> Iterator[WarningText]:
    """What to warn of when the guest gets its queues by ``option``, in sentences."""
    if option.collateral:
        lost = count_queues(len(option.collateral), "collateral")
        yield f"the host loses {lost}: {some_queues(option.collateral)}"
    yield from warnings_of(option)
    yield from not_there(request.matrix, host)
    # A single queue that is reserved but not there is a slip, or a card that is off.
    absent = policy.queues - host.drivers.keys()
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        yield f"{some_queues(absent)}, reserved by the policy, {verb} not on this host"


def not_there(matrix: Matrix, host: Host) -> Iterator[WarningText]:
    """What a guest that is given ``matrix`` will not have of it, in sentences."""
    absent, uncontrolled = absent_queues(matrix, host), absent_control_domains(matrix, host)
    if absent:
        yield f"the guest starts without {some_queues(absent)}, which this host does not have yet"
    if uncontrolled:
        domains = f"control domain{'s' if len(uncontrolled) > 1 else ''} {uncontrolled}"
        yield f"the guest starts without {domains}, which this host does not control yet"

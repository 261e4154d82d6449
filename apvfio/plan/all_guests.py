# SPDX-License-Identifier: Apache-2.0
"""Plan all defined guests together: which can run together, and the fewest collateral queues."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import ApvfioError, printable
from apvfio.model.host import HOST_DRIVER, OVERRIDES
from apvfio.plan.joint import best_options
from apvfio.plan.keep_and_busy import NOTHING_KNOWN, keeps_enough, objections
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.start_plan import check_request, not_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.model.host import Host, Usage
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.plan.joint import JointPlan


class Conflict(NamedTuple):
    """Two guests that cannot run at the same time."""

    first: str
    second: str
    queues: tuple[Apqn, ...]
    """Those that both request; none if it is the mediated device that both name."""


class AllGuests(NamedTuple):
    """The plan for all guests that this host could start."""

    mechanism: str
    guests: tuple[Request, ...]
    errors: tuple[ApvfioError, ...]
    """Why the others cannot start, whoever else runs."""
    conflicts: tuple[Conflict, ...]
    joint_plan: JointPlan | None
    """None if no combination of options leaves the host its reserved queues."""
    warnings: tuple[str, ...]
    """What to warn of when all of them run, in sentences."""

    @property
    def freed_by_guest(self) -> dict[str, str]:
        """For each guest's uuid its way: as ``free-by`` it makes every order of starts end at the optimum."""
        if self.mechanism == OVERRIDES or self.joint_plan is None:
            return {}
        pairs = zip(self.guests, self.joint_plan.options)
        return {request.guest_uuid: way for request, way in pairs}

    @property
    def prefer(self) -> str:
        """The way that is everybody's, and so might be the policy's ``prefer``; '' if there is none."""
        ways = set(self.freed_by_guest.values())
        return ways.pop() if len(ways) == 1 else ""

    def as_json(self) -> dict[str, object]:
        """The plan as ``plan --all --json`` prints it."""
        together, ways = self.joint_plan, self.freed_by_guest
        return {
            "mechanism": self.mechanism,
            "guests": [
                {
                    "guest": request.guest,
                    "uuid": request.guest_uuid,
                    "queues": [str(queue) for queue in request.matrix.queues()],
                    "freed_by": ways.get(request.guest_uuid),
                }
                for request in self.guests
            ],
            "errors": [error.as_json() for error in self.errors],
            "conflicts": [
                {"guests": [one, other], "queues": [str(queue) for queue in queues]}
                for one, other, queues in self.conflicts
            ],
            "possible": together is not None,
            "collateral": [str(queue) for queue in together.collateral] if together else [],
            "collateral_at_least": together.least if together else 0,
            "apmask": f"{together.adapters}" if together else "",
            "aqmask": f"{together.domains}" if together else "",
            "prefer": self.prefer or None,
            "warnings": list(self.warnings),
        }


def plan_all_guests(
    requests: Sequence[Request],
    host: Host,
    ledger: Ledger,
    policy: Policy,
    facts: Usage = NOTHING_KNOWN,
) -> AllGuests:
    """Plan all ``requests`` at once, as if none of them ran yet but those that do keep their way."""
    mechanism = mechanism_of(host, ledger, policy)
    # Queues that apvfio has taken from the host for running guests count as the host's.
    base = host._replace(
        apmask=host.apmask | ledger.pending.apmask, aqmask=host.aqmask | ledger.pending.aqmask, mdevs={}
    )
    possible, errors = [], []
    for request in requests:
        try:
            check_request(request, base, policy, facts)
            possible.append(request)
        except ApvfioError as error:
            errors.append(error)
    asked = {q for request in possible for q in request.matrix.queues() if base.drivers.get(q) == HOST_DRIVER}
    if mechanism == OVERRIDES:
        none = best_options([], [], base, policy, facts=facts)
        found = none if keeps_enough(asked, policy, facts) else None
    else:
        running = {lease.uuid: lease.freed_by for lease in ledger.active_leases()}
        fixed = [running.get(request.guest_uuid) or request.free_by or None for request in possible]
        found = best_options([request.matrix for request in possible], fixed, base, policy, facts=facts)
    taken = asked.union(found.collateral if found else ())
    warned = [f"the host loses {one.why}" for one in objections(taken, policy, facts) if not one.refused]
    for request in possible:
        warned += [f"guest {printable(request.guest)}: {said}" for said in not_there(request.matrix, host)]
    conflicts = tuple(_conflicts(possible))
    return AllGuests(mechanism, tuple(possible), tuple(errors), conflicts, found, tuple(warned))


def _conflicts(requests: list[Request]) -> list[Conflict]:
    found = []
    for one, other in combinations(requests, 2):
        if one.matrix.meets(other.matrix) or one.mdev == other.mdev:
            queues = tuple(one.matrix.overlap(other.matrix).queues())
            found.append(Conflict(one.guest, other.guest, queues))
    return found

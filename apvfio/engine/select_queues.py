# SPDX-License-Identifier: Apache-2.0
"""From a request to a plan, by way of a choice where the guest names no queues."""

from __future__ import annotations

from apvfio.model.errors import ApvfioError, HostError, PolicyError
from apvfio.model.matrix import Apqn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from apvfio.kernel.seam import Sysfs
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request

    Planned = TypeVar("Planned")

TRIES = 32


def all_named(
    sysfs: Sysfs, requests: Iterable[Request], host: Host, ledger: Ledger, policy: Policy
) -> tuple[list[Request], list[ApvfioError]]:
    """The requests with queues for every wish, were all these guests to run; and which wishes cannot be.

    A guest that runs keeps what it has; the others get, one after the other, what is left.
    """
    from apvfio.kernel.cards import read_card_facts  # noqa: PLC0415
    from apvfio.plan.selection import choose_queues  # noqa: PLC0415

    requests = list(requests)
    named = [request for request in requests if not request.criteria]
    errors: list[ApvfioError] = []
    for request in requests:
        if request.criteria is None:
            continue
        running = [lease.matrix for lease in ledger.active_leases() if lease.uuid == request.guest_uuid]
        spoken_for = host._replace(
            mdevs={
                **host.mdevs,
                **{other.mdev: other.matrix for other in named if other.mdev != request.mdev},
            }
        )
        try:
            known = read_card_facts(sysfs, request.criteria, host, ledger)
            matrix = (
                running[0] if running else choose_queues(request, spoken_for, ledger, policy, known=known)
            )
        except ApvfioError as error:
            errors.append(error)
        else:
            named.append(request._replace(matrix=matrix))
    return named, errors


def planned(
    sysfs: Sysfs,
    request: Request,
    host: Host,
    ledger: Ledger,
    policy: Policy,
    *,
    make: Callable[[Request, Ledger], Planned],
) -> Planned:
    """What ``make`` plans for ``request``; a wish is given queues first.

    Some rules of the policy are about what the host is left with, and only a plan can tell.
    Queues that turn out to be needed by the host are left out, and the choice is made again.
    """
    criteria = request.criteria
    if criteria is None:
        return make(request, ledger)
    # Most guests name their queues.
    from apvfio.kernel.cards import read_card_facts  # noqa: PLC0415
    from apvfio.plan.selection import choose_queues  # noqa: PLC0415

    known = read_card_facts(sysfs, criteria, host, ledger)
    ledger = ledger._replace(last_seen_mkvps=known.mkvps)
    kept: frozenset[Apqn] = frozenset()
    avoid: frozenset[Apqn] = frozenset()
    refusal: PolicyError | None = None
    for _ in range(TRIES):
        try:
            matrix = choose_queues(request, host, ledger, policy, known=known, kept=kept, avoid=avoid)
        except (HostError, PolicyError) as error:
            raise (refusal or error).for_guest(request.guest) from None
        try:
            return make(request._replace(matrix=matrix), ledger)
        except PolicyError as error:
            refusal = refusal or error
            refused = frozenset(map(Apqn._make, error.queues))
            asked = avoid.union(filter(matrix.holds, refused))
            if asked == avoid:
                # None of its own: what would be taken besides is the trouble.
                if kept >= refused:
                    break
                kept |= refused
            avoid = asked
    assert refusal
    raise refusal

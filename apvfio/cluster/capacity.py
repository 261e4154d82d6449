# SPDX-License-Identifier: Apache-2.0
"""How many queues of each class a host has for the guests of a cluster."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cluster.classes import WHOLE_MODES, classes_of, named_queues
from apvfio.model.host import HOST_DRIVER, OVERRIDES, VFIO_DRIVER
from apvfio.model.matrix import covering
from apvfio.plan.keep_and_busy import refused_queues
from apvfio.plan.mechanism import mechanism_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from apvfio.model.cards import CardFacts
    from apvfio.model.host import Host, Usage
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request


class BareState(NamedTuple):
    """A host as if no guest of the cluster had ever held a queue, and what planning needs in addition."""

    host: Host
    ledger: Ledger
    policy: Policy
    usage: Usage
    known: CardFacts


def capacity(state: BareState, requests: Collection[Request]) -> dict[str, int]:
    """Return the number of queues for each class that occurs in ``requests``, by its utilization attribute.

    The widest classes are always among them. A queue that one of ``requests`` names is counted by its own
    attribute alone.
    """
    there = available_queues(state, {request.mdev for request in requests})
    by_name = [request.matrix for request in requests if request.criteria is None]
    named = {pair for matrix in by_name for pair in named_queues(matrix)}
    counts = {name: int(queue in there) for name, queue in named}
    left = there - {queue for _, queue in named}
    wanted = [one for request in requests for one in classes_of(request)]
    for one in {*WHOLE_MODES, *wanted}:
        counts[one.attribute] = one.available(left, state.known, partial(_at_most, state))
    return dict(sorted(counts.items()))


def available_queues(state: BareState, devices: Collection[str]) -> set[Apqn]:
    """Return the queues that guests could get, among them those in the mediated devices ``devices``."""
    host, ledger, policy, usage, _ = state
    others = [matrix for uuid, matrix in host.mdevs.items() if uuid not in devices]
    held = covering([*others, *(holder.matrix for holder in ledger.leases_and_claims())])
    kept = refused_queues(policy, usage)
    by_override = mechanism_of(host, ledger, policy) == OVERRIDES
    return {
        queue
        for queue, driver in host.drivers.items()
        if driver in (HOST_DRIVER, VFIO_DRIVER)
        and not (held(queue) or policy.reserves(queue) or queue in kept)
        and not (by_override and host.overrides.get(queue, VFIO_DRIVER) != VFIO_DRIVER)
    }


def _at_most(state: BareState, queues: Collection[Apqn], mode: str) -> int:
    """Return how many of ``queues``, all of ``mode``, guests can have at a time: the host keeps some."""
    keep: int = getattr(state.policy.keep, mode)
    usable = [queue for queue, its in state.usage.usable.items() if its == mode]
    # Queues that the host does not use, such as those set offline, do not count for what it keeps.
    spare = max(0, len(usable) - keep) + sum(queue not in state.usage.usable for queue in queues)
    return min(len(queues), spare) if keep else len(queues)

# SPDX-License-Identifier: Apache-2.0
"""Pairs of guests that cannot run at the same time."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.host import OVERRIDES
from apvfio.plan.all_guests import plan_all_guests
from apvfio.plan.keep_and_busy import NOTHING_KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.model.host import Host, Usage
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request

_SAME_DEVICE = "both name the same mediated device"
_HOST = "the host would keep too few queues"


class Pair(NamedTuple):
    """Two guests that cannot run at the same time, and why."""

    first: str
    second: str
    queues: tuple[Apqn, ...]
    """Those that both request; none if that is not the reason."""
    why: str


def pairs_apart(
    requests: Sequence[Request],
    host: Host,
    ledger: Ledger,
    policy: Policy,
    facts: Usage = NOTHING_KNOWN,
) -> Iterator[Pair]:
    """Every two of the guests, each of which this host could start, that it could not run together.

    They want the same, or the queues of both can be freed only with some that the host needs.
    """
    everyone = plan_all_guests(requests, host, ledger, policy, facts)
    for conflict in everyone.conflicts:
        yield Pair(*conflict, "" if conflict.queues else _SAME_DEVICE)
    if everyone.mechanism == OVERRIDES or everyone.joint_plan is not None:
        return
    apart = {(conflict.first, conflict.second) for conflict in everyone.conflicts}
    for one, other in combinations(everyone.guests, 2):
        if (one.guest, other.guest) in apart:
            continue
        both = plan_all_guests([one, other], host, ledger, policy, facts)
        if len(both.guests) > 1 and both.joint_plan is None:
            yield Pair(one.guest, other.guest, (), _HOST)

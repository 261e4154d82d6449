# SPDX-License-Identifier: Apache-2.0
"""Choose the options of many guests together: the least total collateral, proven unless there are too many.

Each guest is freed by its adapters or by its domains; the host loses all its queues in each adapter or domain
that is cleared. Guests share bits, so the cheapest option of each guest alone is not the cheapest for all.
The adapters and domains that are kept share no queue that a guest requests; the host keeps the queues that
they have in common. The search is branch and bound over the shorter side of the host; for large hosts,
simulated annealing and a bound by eigenvalues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ids import IdSet, bit_count
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.plan.joint_search import GuestIds, Problem, Search, union_of
from apvfio.plan.keep_and_busy import NOTHING_KNOWN, keeps_enough, refused_queues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.model.host import Host, Usage
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.policy import Policy


class JointPlan(NamedTuple):
    """One way for each guest, the cheapest for the host that was found."""

    options: tuple[str, ...]
    """For each guest, in the order given: `BY_ADAPTERS` or `BY_DOMAINS`."""
    adapters: IdSet
    domains: IdSet
    collateral: tuple[Apqn, ...]
    """The collateral queues."""
    least: int
    """No choice loses fewer queues unasked; the same as these are, unless the search had to end before."""


def best_options(
    guests: Sequence[Matrix],
    fixed: Sequence[str | None],
    host: Host,
    policy: Policy,
    *,
    facts: Usage = NOTHING_KNOWN,
) -> JointPlan | None:
    """Return the cheapest options for ``guests``; None if every choice takes what the host needs.

    ``fixed`` has the option of each guest that runs, or whose annotation names one. Cost counts queues that
    the host has now and nobody requested, then bits to clear.
    """
    wanted = {queue for matrix in guests for queue in matrix.queues()}
    own = [q for q in host.drivers if host.masks_give_host(q)]
    unwanted = [q for q in own if q not in wanted]
    refused = refused_queues(policy, facts)
    reserved = [q for q in own if policy.reserves(q) or q in refused]
    rows = [GuestIds(m.adapters.bits, m.domains.bits) for m in guests]
    sides = [BY_ADAPTERS, BY_DOMAINS]
    pairs = [(q.adapter, q.domain) for q in unwanted], [(q.adapter, q.domain) for q in reserved]
    mask, other_mask = host.apmask.bits, host.aqmask.bits
    if bit_count(union_of(g.rows for g in rows)) > bit_count(union_of(g.columns for g in rows)):
        rows = [GuestIds(g.columns, g.rows) for g in rows]
        sides.reverse()
        pairs = [(d, a) for a, d in pairs[0]], [(d, a) for a, d in pairs[1]]
        mask, other_mask = other_mask, mask
    flip = sides[0] == BY_DOMAINS

    def leaves_enough(cleared: int, columns: int) -> bool:
        """Whether the host keeps as many queues of each mode as the policy says."""
        apm, aqm = (columns, cleared) if flip else (cleared, columns)
        needed = facts.default_domain.union(facts.usable)
        taken = (q for q in needed if apm >> q.adapter & 1 or aqm >> q.domain & 1)
        return keeps_enough(taken, policy, facts)

    problem = Problem(
        rows,
        [None if way is None else way == sides[0] for way in fixed],
        *pairs,
        mask,
        other_mask,
        leaves_enough,
    )
    search = Search(problem)
    found = search.run()
    if found is None:
        return None
    cleared, columns = found
    options = tuple(way or (sides[0] if not g.rows & ~cleared else sides[1]) for way, g in zip(fixed, rows))
    ids = {sides[0]: IdSet.from_bits(cleared), sides[1]: IdSet.from_bits(columns)}
    adapters, domains = ids[BY_ADAPTERS], ids[BY_DOMAINS]
    lost = sorted(q for q in unwanted if adapters.bits >> q.adapter & 1 or domains.bits >> q.domain & 1)
    return JointPlan(options, adapters, domains, tuple(lost), search.least_lost)

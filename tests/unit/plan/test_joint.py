# SPDX-License-Identifier: Apache-2.0
"""Ways of many guests chosen together, against brute force."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apvfio.model.host import Host, Usage
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Keep, Policy
from apvfio.plan.joint import best_options
from hosts import a_host, a_matrix

WAYS = (BY_ADAPTERS, BY_DOMAINS)
if TYPE_CHECKING:
    Problem = tuple[Host, list[Matrix], list[str | None], Policy, Usage]


def cost(
    guests: list[Matrix], ways: tuple[str, ...], host: Host, policy: Policy, facts: Usage
) -> tuple[int, int] | None:
    """Queues lost unasked and bits cleared by that choice; None if it takes what the host needs."""
    rows, columns = NO_IDS, NO_IDS
    for matrix, way in zip(guests, ways):
        if way == BY_ADAPTERS:
            rows |= matrix.adapters
        else:
            columns |= matrix.domains
    taken = {
        q for q in host.drivers if host.masks_give_host(q) and (q.adapter in rows or q.domain in columns)
    }
    if any(policy.reserves(queue) or queue in facts.keys for queue in taken):
        return None
    usable = {queue for queue, mode in facts.usable.items() if mode == "cca"}
    if usable & taken and len(usable - taken) < policy.keep.cca:
        return None
    lost = taken - {queue for matrix in guests for queue in matrix.queues()}
    return len(lost), len(rows & host.apmask) + len(columns & host.aqmask)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    ids = st.sets(st.integers(0, 5), min_size=1, max_size=6).map(IdSet)
    host = a_host(draw(ids), draw(ids))
    host = a_host(
        host.adapters,
        host.domains,
        apmask=ALL_IDS - draw(st.sets(st.integers(0, 5), max_size=1).map(IdSet)),
        aqmask=ALL_IDS - draw(st.sets(st.integers(0, 5), max_size=1).map(IdSet)),
    )
    some = [
        st.sets(st.sampled_from(list(side)), min_size=1, max_size=2).map(IdSet)
        for side in (host.adapters, host.domains)
    ]
    guests = draw(st.lists(st.builds(Matrix, *some, st.just(NO_IDS)), min_size=1, max_size=6))
    fixed: list[str | None] = [draw(st.sampled_from([None, None, None, *WAYS])) for _ in guests]
    reserved = draw(st.sets(st.sampled_from(sorted(host.drivers)), max_size=1))
    keep = Keep(cca=draw(st.sampled_from([0, 0, 1, 3])))
    own = [queue for queue in sorted(host.drivers) if host.masks_give_host(queue)]
    modes = {queue: draw(st.sampled_from(["cca", "ep11"])) for queue in own}
    keys = dict.fromkeys(draw(st.lists(st.sampled_from(own), max_size=1)), "volume") if own else {}
    return host, guests, fixed, Policy(frozenset(reserved), keep=keep), Usage(usable=modes, keys=keys)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_no_other_choice_costs_less(problem: Problem) -> None:
    require_best(problem)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(problems())
def test_no_other_choice_of_very_many_costs_less(problem: Problem) -> None:
    require_best(problem)


def require_best(problem: Problem) -> None:
    """That the choice is one of the best of all that there are."""
    host, guests, fixed, policy, facts = problem
    choices = [WAYS if way is None else (way,) for way in fixed]
    costs = [cost(guests, ways, host, policy, facts) for ways in itertools.product(*choices)]
    possible = [found for found in costs if found is not None]
    best = best_options(guests, fixed, host, policy, facts=facts)
    if best is None:
        assert not possible
        return
    assert cost(guests, best.options, host, policy, facts) == min(possible)
    assert len(best.collateral) == min(possible)[0]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problem=problems(), effort=st.integers(0, 30))
def test_a_search_that_ends_early_says_how_much_better_another_choice_may_be(
    monkeypatch: pytest.MonkeyPatch,
    problem: Problem,
    effort: int,
) -> None:
    host, guests, fixed, policy, facts = problem
    monkeypatch.setattr("apvfio.plan.joint_search.EFFORT", 1 << 30)
    best = best_options(guests, fixed, host, policy, facts=facts)
    monkeypatch.setattr("apvfio.plan.joint_search.EFFORT", effort)
    found = best_options(guests, fixed, host, policy, facts=facts)
    if best is None or found is None:
        assert best is found
        return
    lost = cost(guests, found.options, host, policy, facts)
    assert lost is not None
    assert found.least <= best.least == len(best.collateral) <= len(found.collateral) == lost[0]


def test_a_search_that_ends_early_clears_no_bit_that_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapter 0 goes anyway, for the guest that must have it: domain 0 is of no use then."""
    monkeypatch.setattr("apvfio.plan.joint_search.EFFORT", 0)
    guests = [a_matrix("0", "0"), a_matrix("0-1", "2"), a_matrix("0", "0"), a_matrix("2", "0-1")]
    host = a_host(parse_list("0-2"), parse_list("0-3"), apmask=parse_list("1-255"))
    found = best_options(guests, [None, None, BY_ADAPTERS, None], host, Policy())
    assert found is not None
    assert found.domains == parse_list("2")


def test_neighbours_on_one_adapter_share_its_bit() -> None:
    # Alone each would be freed by its domain, at two queues each; together the adapter costs one.
    host = a_host(parse_list("0-2"), parse_list("0-3"))
    best = best_options([a_matrix("0", str(d)) for d in range(3)], [None] * 3, host, Policy())
    assert best is not None
    assert best.options == (BY_ADAPTERS,) * 3
    assert best.collateral == (Apqn(0, 3),)

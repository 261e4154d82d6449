# SPDX-License-Identifier: Apache-2.0
"""A plan that does not take the fewest queues nobody requested says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.engine import live_change
from apvfio.engine.start import start_guest
from apvfio.engine.state import read_state
from apvfio.libvirt.live_guest import this_process
from apvfio.model.errors import ApvfioError
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Policy
from apvfio.plan.options import free_options
from apvfio.plan.start_plan import make_plan
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from hosts import NO_LEASES, a_host, a_request

if TYPE_CHECKING:
    from apvfio.plan.start_plan import Plan

LOSES_TWO = "freeing by domains would cost the host 2 queues, but "


@pytest.mark.parametrize(
    ("free_by", "policy", "because"),
    [
        ("", Policy(), ""),
        ("domains", Policy(), ""),
        ("adapters", Policy(), "its annotation asks to free adapters"),
        ("", Policy(prefer=BY_ADAPTERS), "the policy prefers to free adapters"),
        ("domains", Policy(prefer=BY_ADAPTERS), "the policy prefers to free adapters"),
        ("adapters", Policy(prefer=BY_DOMAINS), ""),
        ("", Policy(queues=frozenset({Apqn(1, 1)})), "it would take 01.0001"),
    ],
)
def test_why_not_the_cheaper_way(free_by: str, policy: Policy, because: str) -> None:
    """By adapters the host loses four queues, by domains two."""
    asked = a_request("0,10", "1-2")._replace(free_by=free_by)
    found = make_plan(asked, a_host(), NO_LEASES, policy)
    assert found.freed_by == (BY_ADAPTERS if because else BY_DOMAINS)
    assert (
        found.preference_reason == ""
        if not because
        else found.preference_reason.startswith(LOSES_TWO + because)
    )
    assert found.as_json()["preference_reason"] == (found.preference_reason or None)


some = st.frozensets(st.sampled_from([0, 1, 10]), min_size=1).map(IdSet)
domains = st.frozensets(st.sampled_from([1, 2, 4, 27]), min_size=1).map(IdSet)
matrices = st.builds(Matrix, some, domains, st.just(NO_IDS))


def cheapest(plan: Plan, system: SimSystem, others: list[Matrix]) -> int:
    """How few queues nobody requested the host could lose."""
    seen = read_state(system)
    return min(
        len(w.collateral)
        for w in free_options(plan.request.matrix, others, seen.host, seen.ledger.pending, seen.policy)
    )


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["6.1", "7.2"]), matrices, matrices, st.none() | matrices)
def test_a_live_change_says_why(version: str, had: Matrix, wanted: Matrix, other: Matrix | None) -> None:
    system = SimSystem.new(SimKernel.new(version))
    try:
        start_guest(system, a_request("0", "1")._replace(matrix=had))
        if other:
            start_guest(system, a_request("0", "1", 2)._replace(matrix=other))
        asked = a_request("0", "1")._replace(matrix=wanted)
        found = live_change.plan_change(system, asked, this_process()).plan
    except ApvfioError:
        return
    least = cheapest(found, system, [other] if other else [])
    assert bool(found.preference_reason) == (len(found.chosen.collateral) > least)


def test_the_live_change_that_was_found_without_a_reason() -> None:
    """By its domain the host would lose fewer queues; but on 7.2 that bit could not go back."""
    system = SimSystem.new(SimKernel.new("7.2"))
    start_guest(system, a_request("0", "1-2"))
    had = [lease.freed_by for lease in read_state(system).ledger.leases.values()]
    assert had == [BY_ADAPTERS]
    asked = a_request("0-1,10", "1")
    found = live_change.plan_change(system, asked, this_process()).plan
    assert (found.freed_by, len(found.chosen.collateral)) == (BY_ADAPTERS, 6)
    assert found.preference_reason == (
        "freeing by domains would cost the host 0 queues, but if the change were undone, a mask bit "
        "that it clears could not be set again while the guest runs"
    )

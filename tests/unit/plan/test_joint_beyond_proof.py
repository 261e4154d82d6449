# SPDX-License-Identifier: Apache-2.0
"""What a search too large for a proof goes on to: a bound by eigenvalues, and choices made by chance."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Matrix
from apvfio.model.policy import Policy
from apvfio.plan.joint import best_options
from apvfio.plan.joint_spectrum import most_between
from apvfio.plan.joint_walk import rows_by_chance
from hosts import a_host

SIDE = 7


def most(forbidden: list[list[int]], width: int) -> int:
    """The most cells that any rows have in the columns where none of them has a forbidden one."""
    best = 0
    for choice in range(1 << len(forbidden)):
        rows = [row for n, row in enumerate(forbidden) if choice >> n & 1]
        best = max(best, len(rows) * (width - len({column for row in rows for column in row})))
    return best


def plane(order: int) -> list[list[int]]:
    """The points of each line of the projective plane of that prime order."""
    ids = range(order)
    points = [(1, b, c) for b in ids for c in ids] + [(0, 1, c) for c in ids] + [(0, 0, 1)]
    return [
        [n for n, p in enumerate(points) if not sum(a * b for a, b in zip(line, p)) % order]
        for line in points
    ]


ROWS = st.lists(st.sets(st.integers(0, SIDE - 1)).map(sorted), min_size=1, max_size=9)


@settings(max_examples=500, deadline=None)
@given(ROWS)
def test_no_rows_keep_more_than_the_bound(forbidden: list[list[int]]) -> None:
    assert most(forbidden, SIDE) <= most_between(forbidden, SIDE) <= len(forbidden) * SIDE


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(12, 20), st.integers(2, 4))
def test_nor_in_larger_tables(chance: random.Random, width: int, each: int) -> None:
    forbidden = [chance.sample(range(width), each) for _ in range(12)]
    assert most(forbidden, width) <= most_between(forbidden, width)


@pytest.mark.parametrize("order", [2, 3, 5, 7])
def test_the_bound_is_near_what_is_known_of_projective_planes(order: int) -> None:
    """All eigenvalues but the largest are the root of the order: both sides keep the same part at most."""
    lines = plane(order)
    part = order**0.5 / (order**0.5 + order + 1)
    exact = (len(lines) * part) ** 2
    assert int(exact) <= most_between(lines, len(lines)) <= exact * 1.1 < len(lines) ** 2 / 4


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(0, 3), st.integers(0, 9))
def test_chance_keeps_no_more_than_there_is(taken_by: list[list[int]], always: int, seed: int) -> None:
    best = most([[]] * always + taken_by, SIDE)
    rows = rows_by_chance(taken_by, always, SIDE, best, seed)
    assert rows == rows_by_chance(taken_by, always, SIDE, best, seed)
    left = SIDE - len({column for row in rows for column in taken_by[row]})
    assert always * SIDE <= (always + len(rows)) * left <= best


def test_chance_finds_what_is_hidden() -> None:
    """In a table of which every fourth cell is taken away, 20 rows that leave 25 columns alone."""
    for seed in range(5):
        chance = random.Random(seed)
        rows, columns = set(chance.sample(range(60), 20)), set(chance.sample(range(60), 25))
        taken_by = [
            [c for c in range(60) if chance.random() < 0.25 and not (r in rows and c in columns)]
            for r in range(60)
        ]
        found = rows_by_chance(taken_by, 0, 60, 400, seed)
        assert len(found) * (60 - len({c for row in found for c in taken_by[row]})) >= 20 * 25


def test_a_thousand_guests_all_over_the_largest_host_are_planned_in_the_end() -> None:
    chance = random.Random(1)
    queues = chance.sample([(a, d) for a in range(256) for d in range(256)], 1000)
    guests = [Matrix(IdSet([adapter]), IdSet([domain])) for adapter, domain in queues]
    found = best_options(guests, [None] * len(guests), a_host(ALL_IDS, ALL_IDS), Policy())
    assert found is not None
    lost = len(found.collateral)
    assert found.least < lost < 1.14 * found.least

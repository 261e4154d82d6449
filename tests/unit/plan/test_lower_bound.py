# SPDX-License-Identifier: Apache-2.0
"""The search's bound, against every choice there is."""

from __future__ import annotations

from itertools import combinations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.model.ids import bit_count
from apvfio.plan.joint_bound import fewest, most_kept

SIDE = 6
SET = st.integers(0, (1 << SIDE) - 1)


def union(sets: tuple[int, ...]) -> int:
    found = 0
    for one in sets:
        found |= one
    return found


def crowds(sends: list[int]) -> list[int]:
    """How many columns one of them or more has, two or more, and so on."""
    times = [sum(one >> column & 1 for one in sends) for column in range(SIDE)]
    return [sum(n >= k for n in times) for k in range(1, max(times, default=0) + 1)]


@settings(max_examples=1000)
@given(st.lists(SET, max_size=5), st.lists(st.tuples(SET, SET), max_size=5))
def test_no_choice_keeps_more(sure: list[int], undecided: list[tuple[int, int]]) -> None:
    cells = [bit_count(queues) for queues in sure]
    hopes = [bit_count(queues & ~sends) for queues, sends in undecided]
    takes = [bit_count(sends) for _, sends in undecided]
    most = most_kept(cells, hopes, takes, crowds([sends for _, sends in undecided]), SIDE)
    kept = []
    for choice in product((False, True), repeat=len(undecided)):
        stays = [pair for pair, yes in zip(undecided, choice) if yes]
        gone = union(tuple(sends for _, sends in stays))
        kept.append(sum(bit_count(queues & ~gone) for queues in [*sure, *(q for q, _ in stays)]))
    assert most >= max(kept)
    if not undecided:
        assert most == max(kept)


@settings(max_examples=500)
@given(st.lists(SET, min_size=1, max_size=6), st.data())
def test_so_many_take_no_fewer_columns(sends: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(sends)))
    for some in combinations(sends, count):
        taken = sum(bit_count(one) for one in some)
        assert fewest(count, taken, crowds(sends)) <= bit_count(union(some))


def test_it_is_exact_where_all_rows_are_alike() -> None:
    """Of eight rows, each with a column of its own that it takes, four by four are the most."""
    assert most_kept([], [7] * 8, [1] * 8, [8], 8) == 16
    # All take the same column: it is lost once.
    assert most_kept([], [7] * 8, [1] * 8, [1] * 8, 8) == 56
    assert fewest(3, 6, [4, 3, 2]) == 2

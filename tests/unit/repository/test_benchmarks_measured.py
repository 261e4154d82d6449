# SPDX-License-Identifier: Apache-2.0
"""benchmarks/run with one round: each benchmark checks itself whether the work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmark_run import rows_of

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def slow(goal: int, rows: int) -> ParameterSet:
    """A goal that takes ten seconds or more."""
    return pytest.param(goal, rows, marks=pytest.mark.slow)


@pytest.mark.parametrize(("goal", "rows"), [(1, 2), (2, 4), slow(4, 12), (5, 2), slow(7, 10), (8, 2)])
def test_a_goal_is_measured(goal: int, rows: int) -> None:
    assert len(rows_of(goal)) == rows

# SPDX-License-Identifier: Apache-2.0
"""The benchmarks that need a mounted host, and the planner's: each looks itself whether the work is done."""

from __future__ import annotations

import pytest

from benchmark_run import rows_of


@pytest.mark.parametrize(("goal", "rows"), [(1, 2), (2, 3), (4, 12), (5, 2)])
def test_a_goal_is_measured(goal: int, rows: int) -> None:
    assert len(rows_of(goal)) == rows

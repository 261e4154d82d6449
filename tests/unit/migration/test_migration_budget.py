# SPDX-License-Identifier: Apache-2.0
"""The time of a migration."""

from __future__ import annotations

from math import inf

import pytest

from apvfio.migration.budget import Budget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "ahead", "last"), [(30, 20, 3), (15, 10, 1.5), (60, 40, 3), (600, 580, 3)]
)
def test_a_part_is_kept_for_the_way_back(seconds: float, ahead: float, last: float) -> None:
    clock = Clock()
    budget = Budget(seconds, clock)
    assert budget.left() == pytest.approx(ahead)
    assert budget.for_call() == pytest.approx(ahead)
    clock.now += ahead
    assert budget.left() == 0
    budget.turn_back()
    assert budget.left() == pytest.approx(seconds - ahead - last)
    clock.now += seconds
    assert budget.left() == 0
    assert budget.for_call() == 1  # where the guest is can still be asked


def test_without_a_limit_the_way_back_has_one() -> None:
    clock = Clock()
    budget = Budget(None, clock)
    assert budget.left() == budget.for_call() == inf
    budget.turn_back()
    assert budget.left() == 60
    assert budget.for_call() == 5
    budget.turn_back(inf)  # libvirt moves it back
    assert budget.left() == inf
    assert budget.for_call() == 5


def test_turning_back_gives_no_more_time() -> None:
    clock = Clock()
    budget = Budget(30, clock)
    budget.turn_back(inf)
    clock.now += 26
    budget.turn_back()
    assert budget.left() == pytest.approx(1)

# SPDX-License-Identifier: Apache-2.0
"""Hooks, tools and the machine meet on a host and take turns in every way, or in many."""

from __future__ import annotations

import random
from itertools import cycle

import pytest

from apvfio.model.errors import ApvfioError
from apvfio.model.host import MASKS, OVERRIDES
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from model.befores import Cell
from model.figures import TOLD
from model.schedule import Lock, Plan, Point, Scheduler, StuckError, by_chance, more
from model.stages import MEETINGS, SMALL, in_every_way, in_random_ways, in_some_ways, meet

CELLS = (Cell("6.1", MASKS, BY_ADAPTERS), Cell("7.2", MASKS, BY_DOMAINS), Cell("7.2", OVERRIDES, ""))
LARGE = [name for name in MEETINGS if name not in SMALL]


@pytest.mark.parametrize(("name", "cell"), [*zip(SMALL, cycle(CELLS))])
def test_no_order_of_two_breaks_a_promise(name: str, cell: Cell) -> None:
    tried, broken = in_every_way(name, cell, 1, reads=False)
    assert not broken
    assert tried > 2
    TOLD.schedules["two, every one with a switch at a write or a lock"] += tried


@pytest.mark.parametrize("cell", CELLS[1:], ids=str)
@pytest.mark.parametrize("name", LARGE)
def test_no_order_of_many_breaks_a_promise(name: str, cell: Cell) -> None:
    tried, broken = in_random_ways(name, cell, "many", 8)
    assert not broken
    TOLD.schedules["many, by chance"] += tried


@pytest.mark.parametrize(("name", "cell"), [*zip(MEETINGS, cycle(CELLS[::-1]))])
def test_no_two_switches_break_a_promise(name: str, cell: Cell) -> None:
    tried, broken = in_some_ways(name, cell, 2, "two", 4)
    assert not broken
    assert tried > 4
    TOLD.schedules["all, a sample with two switches"] += tried


def test_the_same_seed_takes_the_same_turns() -> None:
    meeting = MEETINGS["everybody"]
    one, two = (meet(meeting, CELLS[1], by_chance(random.Random("x"), 0.3), reads=True) for _ in range(2))
    assert one == two
    assert len({point.actor for point in one}) == len(meeting.acts) + 1  # nobody, when one has ended


def test_a_schedule_that_breaks_a_promise_is_told_and_does_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that takes no lock: two at once overwrite each other's ledger."""

    def without(self: object, lock: Lock) -> object:
        from contextlib import nullcontext

        return nullcontext()

    monkeypatch.setattr(Scheduler, "holding", without)
    name = "two starts that want the same"
    _, broken = in_every_way(name, CELLS[1], 1, reads=False)
    assert broken
    assert "Plan(switches=((0, " in broken[0]
    plan = eval(broken[0][broken[0].index("Plan(") : broken[0].index(", reads")])
    with pytest.raises((AssertionError, ApvfioError, OSError)):
        meet(MEETINGS[name], CELLS[1], plan.choose, reads=False)


def test_who_waits_for_each_other_is_found_out() -> None:
    scheduler = Scheduler(Plan(((0, "a"), (2, "b"))).choose)
    left, right = Lock("left"), Lock("right")

    def nested(outer: Lock, inner: Lock) -> None:
        with scheduler.holding(outer), scheduler.holding(inner):
            pass

    with pytest.raises(StuckError, match="a waits for right, which b has"):
        scheduler.run({"a": lambda: nested(left, right), "b": lambda: nested(right, left)})


def test_an_error_of_one_ends_all() -> None:
    scheduler = Scheduler(Plan(((0, "waits"), (1, "fails"))).choose)

    def fail() -> None:
        raise ValueError("of one")

    with pytest.raises(ValueError, match="of one"):
        scheduler.run({"waits": lambda: scheduler.point("here"), "fails": fail})


def test_plans_with_one_more_switch_come_after_the_last() -> None:
    points = [Point(n, "a", "", ("a", "b"), False) for n in range(3)]
    plans = list(more(Plan(((0, "a"),)), points, 1))
    assert plans == [Plan(((0, "a"), (1, "b"))), Plan(((0, "a"), (2, "b")))]
    assert list(more(plans[0], points, 1)) == []


def test_a_lock_is_handed_to_those_that_wait_and_sleepers_let_others_go() -> None:
    import time

    order: list[str] = []
    lock = Lock("it")

    def sleepy() -> None:
        with scheduler.holding(lock):
            time.sleep(100)
            order.append("sleepy")

    def quick() -> None:
        with scheduler.holding(lock):
            order.append("quick")

    scheduler = Scheduler(Plan(((0, "sleepy"),)).choose)
    scheduler.run({"sleepy": sleepy, "free": lambda: order.append("free"), "quick": quick})
    assert order == ["free", "sleepy", "quick"]

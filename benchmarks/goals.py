# SPDX-License-Identifier: Apache-2.0
"""A goal, what was measured, and the table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.measure import Pair

_HEADINGS = ("what", "beside", "ratio", "quartiles", "goal", "")


class Goal(NamedTuple):
    """One line of the table."""

    what: str
    beside: str
    ratio: float
    bound: float | None = None
    """The most that the ratio may be; None for a figure that has no goal."""
    spread: tuple[float, float] | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the ratio is within its bound."""
        return self.bound is None or self.ratio <= self.bound


def measured(what: str, beside: str, pair: Pair, bound: float | None = None, note: str = "") -> Goal:
    """The goal that ``pair`` measures."""
    milliseconds = (min(times) * 1000 for times in pair)
    took = "least {:.3g} and {:.3g} ms".format(*milliseconds)
    return Goal(what, beside, pair.ratio, bound, pair.spread, f"{took}; {note}" if note else took)


def table(goals: Iterable[Goal]) -> Iterator[str]:
    """The goals as lines of Markdown."""
    yield _row(_HEADINGS)
    yield _row(["---"] * len(_HEADINGS))
    for goal in goals:
        verdict = "" if goal.bound is None else "met" if goal.met else "**missed**"
        quartiles = f"{_number(goal.spread[0])} - {_number(goal.spread[1])}" if goal.spread else "counted"
        bound = "" if goal.bound is None else f"at most {goal.bound:g}"
        rest = "; ".join(filter(None, (verdict, goal.note)))
        yield _row([goal.what, goal.beside, _number(goal.ratio), quartiles, bound, rest])


def _number(ratio: float) -> str:
    return f"{ratio:.3g}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

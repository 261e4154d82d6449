# SPDX-License-Identifier: Apache-2.0
"""A goal, what was measured, and the table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.measure import Pair

_HEADINGS = ("goal", "what", "beside", "ratio", "quartiles", "at most", "", "medians, or counts")


class Goal(NamedTuple):
    """One line of the table."""

    what: str
    beside: str
    ratio: float
    bound: float | None = None
    """The most that the ratio may be; None for a figure that has no goal."""
    pair: Pair | None = None
    """The times behind the ratio; None if it was counted."""
    note: str = ""
    number: int = 0
    """Which goal it is, as `benchmarks.__main__` numbers them."""

    @property
    def met(self) -> bool:
        """Whether the ratio is within its bound; what could not be measured is not."""
        return self.bound is None or self.ratio <= self.bound


def measured(what: str, beside: str, pair: Pair, bound: float | None = None, note: str = "") -> Goal:
    """The goal that ``pair`` measures."""
    took = "{:.3g} and {:.3g} ms".format(*(median * 1000 for median in pair.medians))
    return Goal(what, beside, pair.ratio, bound, pair, f"{took}; {note}" if note else took)


def counted(what: str, beside: str, ours: float, theirs: float, *, bound: float, note: str = "") -> Goal:
    """A goal for which two numbers are compared."""
    return Goal(what, beside, ours / theirs, bound, note=note or f"{ours} and {theirs}")


def table(goals: Iterable[Goal]) -> Iterator[str]:
    """The goals as lines of Markdown."""
    yield _row(_HEADINGS)
    yield _row(["---"] * len(_HEADINGS))
    for goal in goals:
        verdict = "" if goal.bound is None else "met" if goal.met else "**missed**"
        quartiles = " - ".join(map(_number, goal.pair.spread)) if goal.pair else "counted"
        bound = "" if goal.bound is None else _number(goal.bound)
        yield _row(
            [
                str(goal.number),
                goal.what,
                goal.beside,
                _number(goal.ratio),
                quartiles,
                bound,
                verdict,
                goal.note,
            ]
        )


def _number(ratio: float) -> str:
    return f"{ratio:.3g}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

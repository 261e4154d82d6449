# SPDX-License-Identifier: Apache-2.0
"""Search the options of many guests together: branch and bound, which ends after limited time.

The sides are named by their role: the search decides row by row, and the rows are the shorter side of the
host. All sets are integers, in which bit i stands for id i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ids import IdSet, bit_count
from apvfio.plan.joint_bound import most_kept
from apvfio.plan.joint_spectrum import most_between
from apvfio.plan.joint_walk import rows_by_chance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IMPOSSIBLE = 1 << 60
QUEUE = 1 << 10
"""The weight of one lost queue in cleared bits: there are 512 bits at most."""
EFFORT = 1_000_000
"""Rows looked at, over all partial choices, once there is an answer: a second or so."""
WALKS = 3
"""Choices made by chance if that was too few for a proof."""


class GuestIds(NamedTuple):
    """The ids that one guest requests."""

    rows: int
    columns: int


class Problem(NamedTuple):
    """The input of the search."""

    guests: list[GuestIds]
    by_rows: list[bool | None]
    """For each guest whether it must be freed by its rows, None if that is open."""
    unwanted: list[tuple[int, int]]
    """The host's queues that nobody requests, by row and column."""
    reserved: list[tuple[int, int]]
    row_mask: int
    column_mask: int
    may_end_so: Callable[[int, int], bool]
    """Whether the rows and columns cleared in the end leave the host what it needs."""


class Search:
    """Branch and bound over the rows, once."""

    def __init__(self, problem: Problem) -> None:
        self.nodes = 0
        """How many partial choices were looked at."""
        self._left_out = IMPOSSIBLE
        self._may_end_so = problem.may_end_so
        self._row_mask, self._column_mask = problem.row_mask, problem.column_mask
        pairs = list(zip(problem.guests, problem.by_rows))
        self._start_cleared = union_of(guest.rows for guest, by_rows in pairs if by_rows)
        self._start_columns = union_of(guest.columns for guest, by_rows in pairs if by_rows is False)
        open_ones = [guest for guest, by_rows in pairs if by_rows is None]
        # A row that is cleared in any case leaves nothing to decide.
        self._sends = {
            row: union_of(guest.columns for guest in open_ones if guest.rows >> row & 1)
            for row in IdSet.from_bits(union_of(guest.rows for guest in open_ones) & ~self._start_cleared)
        }
        unwanted = _by_row(problem.unwanted)
        self._closed_rows = union_of(1 << row for row, _ in problem.reserved)
        self._closed_columns = union_of(1 << column for _, column in problem.reserved)
        # The rows that decide most come first: those that send most columns away.
        self._order = sorted(self._sends, key=lambda row: (-bit_count(self._sends[row]), row))
        self._open = [
            union_of(1 << row for row in self._order[depth:]) for depth in range(len(self._order) + 1)
        ]
        self._rows = [
            (row, unwanted.get(row, 0), self._sends.get(row, 0))
            for row in unwanted.keys() | self._sends.keys()
        ]
        self._total = len(problem.unwanted)
        self._columns = union_of(queues | sends for _, queues, sends in self._rows)
        # For each depth the columns that one of the rows open there or more would send away, two or more...
        self._crowds: list[list[int]] = [[]]
        for row in reversed(self._order):
            self._crowds.append(_one_more(self._crowds[-1], self._sends[row]))
        self._crowds.reverse()
        self._best = IMPOSSIBLE
        self._found: tuple[int, int] | None = None

    def run(self) -> tuple[int, int] | None:
        """The rows and columns to clear, or None if that is impossible."""
        self._climb(set())
        self._climb(set(self._order))
        cleared, columns = self._start_cleared, self._start_columns
        self._branch(0, cleared, columns, self._bound(0, cleared, columns))
        if self._left_out < self._best:
            self._beyond_proof()
        return self._found

    @property
    def least_lost(self) -> int:
        """How many unwanted queues are lost at least, whatever is chosen."""
        return min(self._best, self._left_out) // QUEUE

    def _climb(self, kept: set[int]) -> None:
        """Better a choice row by row, until no single row is worth another decision."""
        best, better = self._weigh(kept), True
        while better:
            better = False
            for row in self._order:
                other = kept ^ {row}
                cost = self._weigh(other)
                if cost < best:
                    kept, best, better = other, cost, True

    def _beyond_proof(self) -> None:
        """A better choice by chance, and a bound by eigenvalues, both for rows and columns taken as full."""
        columns = union_of(queues for _, queues, _ in self._rows) & ~self._start_columns
        number = {column: n for n, column in enumerate(IdSet.from_bits(columns))}
        taken_by = {
            row: [number[column] for column in IdSet.from_bits(sends & columns)]
            for row, queues, sends in self._rows
            if queues and not self._start_cleared >> row & 1
        }
        rows = [row for row in self._order if row in taken_by]
        always = len(taken_by) - len(rows)
        for seed in range(WALKS):
            known = self._total - self._best // QUEUE
            found = rows_by_chance([taken_by[row] for row in rows], always, len(number), known, seed)
            self._climb({rows[n] for n in found})
        kept = most_between(list(taken_by.values()), len(number))
        self._left_out = max(self._left_out, (self._total - kept) * QUEUE)

    def _weigh(self, kept: set[int]) -> int:
        """What it costs to keep these rows and clear the others; the cheapest so far is remembered."""
        columns = self._start_columns | union_of(self._sends[row] for row in kept)
        cleared = self._start_cleared
        for row in self._order:
            if self._sends[row] & ~columns:
                cleared |= 1 << row
        cost = self._cost(cleared, columns)
        if cost < self._best and self._may_end_so(cleared, columns):
            self._best, self._found = cost, (cleared, columns)
        return cost

    def _cost(self, cleared: int, columns: int) -> int:
        """What the host loses in the end."""
        if self._closed(cleared, columns):
            return IMPOSSIBLE
        kept = sum(bit_count(queues & ~columns) for row, queues, _ in self._rows if not cleared >> row & 1)
        return (self._total - kept) * QUEUE + self._bits(cleared, columns)

    def _closed(self, cleared: int, columns: int) -> bool:
        """Whether it takes a reserved queue."""
        return bool(
            cleared & self._row_mask & self._closed_rows or columns & self._column_mask & self._closed_columns
        )

    def _bits(self, cleared: int, columns: int) -> int:
        return bit_count(cleared & self._row_mask) + bit_count(columns & self._column_mask)

    def _branch(self, depth: int, cleared: int, columns: int, bound: int) -> None:
        self.nodes += 1
        begin = depth
        while depth < len(self._order) and self._decided(self._order[depth], cleared, columns):
            depth += 1
        if depth > begin and bound < self._best:
            bound = self._bound(depth, cleared, columns)
        if bound >= self._best:
            return
        if self._found and self.nodes * len(self._rows) > EFFORT:
            self._left_out = min(self._left_out, bound)
            return
        if depth == len(self._order):
            if self._may_end_so(cleared, columns):
                self._best, self._found = bound, (cleared, columns)
            return
        row = self._order[depth]
        clear = (depth + 1, cleared | 1 << row, columns)
        keep = (depth + 1, cleared, columns | self._sends[row])
        for least, branch in sorted((self._bound(*choice), choice) for choice in (clear, keep)):
            self._branch(*branch, least)

    def _decided(self, row: int, cleared: int, columns: int) -> bool:
        """Whether nothing is left to choose: it is cleared anyway, or keeping it costs nothing more."""
        return bool(cleared >> row & 1) or not self._sends[row] & ~columns

    def _bound(self, depth: int, cleared: int, columns: int) -> int:
        """What this choice costs at least, whatever is decided about the other rows."""
        if self._closed(cleared, columns):
            return IMPOSSIBLE
        left, still_open = self._columns & ~columns, self._open[depth] & ~cleared
        sure, hopes, takes = [], [], []
        for row, queues, sends in self._rows:
            if still_open >> row & 1:
                hopes.append(bit_count(queues & left & ~sends))
                takes.append(bit_count(sends & left))
            elif not cleared >> row & 1:
                sure.append(bit_count(queues & left))
        crowds = [bit_count(crowd & left) for crowd in self._crowds[depth]]
        kept = most_kept(sure, hopes, takes, crowds, bit_count(left))
        return (self._total - kept) * QUEUE + self._bits(cleared, columns)


def _one_more(crowds: list[int], sends: int) -> list[int]:
    """The columns that one or more send away, two or more, and so on, with one more that sends ``sends``."""
    before = [sends, *(crowd & sends for crowd in crowds)]
    after = [crowd | more for crowd, more in zip([*crowds, 0], before)]
    return after if after[-1] else after[:-1]


def _by_row(pairs: list[tuple[int, int]]) -> dict[int, int]:
    table: dict[int, int] = {}
    for row, column in pairs:
        table[row] = table.get(row, 0) | 1 << column
    return table


def union_of(sets: Iterable[int]) -> int:
    """All ids of ``sets``."""
    union = 0
    for bits in sets:
        union |= bits
    return union

# SPDX-License-Identifier: Apache-2.0
"""How much was tried: crash points by verb and kind of host, steps by kind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Table:
    """Numbers by row and column."""

    def __init__(self) -> None:
        self._cells: Counter[tuple[str, str]] = Counter()

    def add(self, row: str, column: str, n: int) -> None:
        """Add ``n`` to a cell."""
        self._cells[row, column] += n

    @property
    def total(self) -> int:
        """The sum of all cells."""
        return sum(self._cells.values())

    def lines(self) -> Iterator[str]:
        """The table; a dash where a verb cannot be."""
        rows = list(dict.fromkeys(row for row, _ in self._cells))
        columns = list(dict.fromkeys(column for _, column in self._cells))
        width = max(map(len, rows), default=0)
        yield " " * width + "".join(f"  {column}" for column in columns)
        for row in rows:
            texts = (str(self._cells.get((row, column), "-")).rjust(len(column)) for column in columns)
            yield row.ljust(width) + "".join(f"  {text}" for text in texts)


class Told:
    """What the tests of this tier have to tell."""

    def __init__(self) -> None:
        self.crash_points = Table()
        self.file_faults = Table()
        self.world: Counter[str] = Counter()
        self.schedules: Counter[str] = Counter()

    def lines(self) -> Iterator[str]:
        """All of it."""
        if self.crash_points.total:
            yield f"crash points: {self.crash_points.total} tried, all recovered"
        if self.file_faults.total:
            yield f"faults at file operations: {self.file_faults.total} tried, all recovered"
        if self.world:
            struck = self.world["struck"]
            yield f"operations on hosts with all their actors: {self.world.total()}, {struck} of them struck"
        for name, n in self.schedules.items():
            yield f"schedules of {name}: {n}"


TOLD = Told()

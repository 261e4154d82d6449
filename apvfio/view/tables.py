# SPDX-License-Identifier: Apache-2.0
"""Tables as s390-tools print them: columns of fixed width, one blank between, a rule under the heading."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Column(NamedTuple):
    """One column; a text longer than ``width`` is not cut, it shifts the rest of its line."""

    heading: str
    width: int
    right: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, heading: bool = True) -> Iterator[str]:
    """The lines of a table. As in s390-tools, the last column is filled up with blanks, too."""
    if heading:
        yield _line(columns, [column.heading for column in columns])
        yield "-" * (sum(column.width for column in columns) + len(columns) - 1)
    for row in rows:
        yield _line(columns, row)


def bare_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table as lszdev prints it: as wide as its texts, two blanks between, no rule."""
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for texts in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(texts, widths)).rstrip()


def _line(columns: Sequence[Column], texts: Sequence[str]) -> str:
    cells = zip(columns, texts)
    return " ".join(text.rjust(c.width) if c.right else text.ljust(c.width) for c, text in cells)

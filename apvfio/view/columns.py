# SPDX-License-Identifier: Apache-2.0
"""Tables for a terminal: columns, and the display width of texts."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INDENT = 4


def columns(text: str) -> int:
    """How many columns ``text`` takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def padded(text: str, width: int) -> str:
    """``text`` filled up with blanks to ``width`` columns."""
    return text + " " * (width - columns(text))


def cut(text: str, limit: int | None) -> str:
    """``text``, cut where it takes more than ``limit`` columns, which then ends with an ellipsis."""
    if limit is None or columns(text) <= limit:
        return text
    return _head(text, limit - 1) + "…"


def fold(line: str, width: int | None, indent: int = _INDENT) -> Iterator[str]:
    """``line`` in lines of at most ``width`` columns, the later ones indented; None is no limit.

    It is broken at blanks, or anywhere in a word that is longer than a line.
    """
    if width is None or columns(line) <= width:
        yield line
        return
    indent = indent if width > 2 * indent else 0
    shown = ""
    for piece in re.findall(r"\s*\S+", line):
        word, fresh = piece, not shown.strip()
        while columns(shown) + columns(word) > width:
            if not fresh:
                yield shown
                shown, word, fresh = " " * indent, word.lstrip(), True
                continue
            head = _head(word, width - columns(shown)) or word[0]
            yield shown + head
            shown, word = " " * indent, word[len(head) :]
        shown += word
    if shown.strip():
        yield shown


def _head(text: str, limit: int) -> str:
    """As much of ``text`` as fits into ``limit`` columns."""
    taken = 0
    for i, character in enumerate(text):
        taken += _columns(character)
        if taken > limit:
            return text[:i]
    return text


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


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

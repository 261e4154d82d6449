# SPDX-License-Identifier: Apache-2.0
"""All guests that ask for something, in words: what each needs, whether it could start, who bars whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import printable
from apvfio.model.text import some_queues
from apvfio.view.columns import columns, cut, fold, padded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.libvirt.guest_status import GuestStatus
    from apvfio.plan.guest_pairs import Pair

_HEADINGS = ("GUEST", "STATE", "ASKS FOR", "NOW")
_GAP = 2
_NARROWEST = 12
"""Columns below which what a guest asks for is not squeezed: each guest gets lines of its own then."""
_LONGEST_NAME = 30
_SHOWN = 4


def guests_text(standings: Sequence[GuestStatus], pairs: Sequence[Pair], width: int | None) -> Iterator[str]:
    """A table if it fits into ``width`` columns, lines for each guest if not; then who bars whom."""
    rows = [
        (
            cut(printable(one.name), _LONGEST_NAME),
            one.state,
            printable(one.asks, 200),
            printable(one.now, 300),
        )
        for one in standings
    ]
    yield from _table(rows, width) if rows else ()
    if pairs:
        yield ""
    for pair in pairs:
        both = f"{printable(pair.first)} and {printable(pair.second)} cannot run together: {_why(pair)}"
        yield from fold(both, width)


def _why(pair: Pair) -> str:
    if pair.queues:
        return f"both want {some_queues(pair.queues, _SHOWN)}"
    return pair.why


def _table(rows: list[tuple[str, str, str, str]], width: int | None) -> Iterator[str]:
    names, states, asks = (max(columns(row[i]) for row in (_HEADINGS, *rows)) for i in range(3))
    left = names + states + asks + 3 * _GAP
    widest = max(columns(row[3]) for row in (_HEADINGS, *rows))
    if width is not None and left + min(widest, 2 * _NARROWEST) > width:
        yield from _lines(rows, width)
        return
    for row in (_HEADINGS, *rows):
        head = f"{padded(row[0], names + _GAP)}{padded(row[1], states + _GAP)}{padded(row[2], asks + _GAP)}"
        folded = list(fold(row[3], None if width is None else width - left, 0))
        yield head + folded[0]
        yield from (" " * left + line for line in folded[1:])


def _lines(rows: list[tuple[str, str, str, str]], width: int) -> Iterator[str]:
    for name, state, asks, now in rows:
        yield from fold(f"{name}, {state}", width)
        yield from fold(f"    {asks}", width, 6)
        yield from fold(f"    {now}", width, 6)

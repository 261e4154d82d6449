# SPDX-License-Identifier: Apache-2.0
"""What stands below the matrix in an SVG picture: the legend, what is owed, and what is wrong."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from apvfio.model.owners import HOST
from apvfio.model.queue_states import IN_USE, STATES
from apvfio.view.columns import columns
from apvfio.view.picture import Entry
from apvfio.view.svg_parts import CELL, CHARACTER, LEFT
from apvfio.view.svg_square import square

if TYPE_CHECKING:
    from apvfio.view.picture import Picture
    from apvfio.view.status_report import Report
    from apvfio.view.svg_parts import Drawing

_LINE = CELL + 4
_GAP = 10
_COUNT = 26
_ANY = Entry(HOST, "", None, "", 0, ())
_TWO_COLUMNS = 6
"""From so many entries on the legend has two columns, if both fit."""


def notes(drawing: Drawing, told: Report) -> None:
    """Put leases, debts and drift below what is drawn."""
    drawing.down(6)
    drawing.text(LEFT, "Leases", "head")
    for sentence in told.leases:
        drawing.paragraph(LEFT, sentence)
    drawing.down(6)
    drawing.text(LEFT, "Owed to the host", "head")
    drawing.paragraph(LEFT, told.pending)
    if told.drift:
        drawing.down(6)
        drawing.text(LEFT, "Not as it should be", "head")
        for sentence in told.drift:
            drawing.paragraph(LEFT, sentence, "warning")


def legend(drawing: Drawing, drawn: Picture) -> None:
    """Put the legend below what is drawn."""
    if not drawn.cells:
        return
    entries = list(drawn.legend.values())
    longest = max(columns(f"{entry.text}{entry.counted}") for entry in entries)
    width = int(CELL + _GAP + _COUNT + longest * CHARACTER)
    drawing.wide(LEFT + width)
    room = drawing.width - 2 * LEFT
    two = len(entries) >= _TWO_COLUMNS and 2 * width <= room
    lines = -(-len(entries) // 2) if two else len(entries)
    top = drawing.y
    for i, entry in enumerate(entries):
        x = LEFT + (i // lines) * (room // 2)
        _entry(drawing, entry, x, top + i % lines * _LINE)
    drawing.down(lines * _LINE)
    for state in STATES:
        if any(cell.state == state for cell in drawn.cells.values()):
            _state(drawing, state)
    if drawn.lost:
        drawing.paragraph(LEFT, drawn.lost, "warning")


def _entry(drawing: Drawing, entry: Entry, x: int, y: int) -> None:
    said = f'{escape(entry.text)}<tspan class="count">   {escape(entry.counted)}</tspan>'
    drawing.put(f'<g transform="translate({x} {y})">{square(entry)}')
    drawing.put(f'<text x="{CELL + _GAP}" y="{CELL // 2 + 5}">{said}</text></g>')


def _state(drawing: Drawing, state: str) -> None:
    what = "in use by a running guest" if state == IN_USE else f"{state}: no work gets through"
    drawing.put(f'<g transform="translate({LEFT} {drawing.y})">{square(_ANY, state)}')
    drawing.put(f'<text x="{CELL + _GAP}" y="{CELL // 2 + 5}">{what}</text></g>')
    drawing.down(_LINE)

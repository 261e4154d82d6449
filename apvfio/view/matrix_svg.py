# SPDX-License-Identifier: Apache-2.0
"""The matrix of a host as an SVG picture, drawn as in IBM's manuals: a square for each queue.

The picture needs no other file: it contains its styles and uses the fonts that are installed. Color alone
never carries information: each square has its owner's mark. The same report always gives the same text.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from apvfio.model.matrix import Apqn
from apvfio.model.owners import FREE, HOST, UNBOUND
from apvfio.model.queue_states import IN_USE, STATES
from apvfio.model.text import count_queues, decimal
from apvfio.view.columns import columns
from apvfio.view.picture import RESERVED, Entry
from apvfio.view.svg_parts import CELL, CHARACTER, LEFT, MARGIN, Drawing, style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.view.picture import Entry, Picture
    from apvfio.view.status_report import Report
    from apvfio.view.svg_parts import Drawing


_COLUMNS = 32
"""Domains side by side; with more of them no page would be wide enough to be read."""
_GROUP = 8
_GAP = 6


def svg(shown: Report, place: str = "", when: str = "") -> str:
    """Return the whole report as a picture; ``place`` names the host and ``when`` the time in its title."""
    drawing = Drawing()
    title = ", ".join([f"AP matrix of {place}" if place else "AP matrix", *([when] if when else [])])
    _title(drawing, shown, title)
    _matrix(drawing, shown.picture)
    _legend(drawing, shown.picture)
    _notes(drawing, shown)
    width, height = drawing.width, drawing.y + LEFT
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="apvfio" {size} role="img" '
            'aria-labelledby="apvfio-title apvfio-description">',
            f'<title id="apvfio-title">{escape(title)}</title>',
            f'<desc id="apvfio-description">{escape(_description(shown))}</desc>',
            f"<style>{style()}</style>",
            '<defs><pattern id="apvfio-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="hatch" width="2.4" height="6"/></pattern></defs>',
            f'<rect class="paper" width="{width}" height="{height}"/>',
            *drawing.parts,
            "</svg>",
            "",
        ]
    )


def _description(shown: Report) -> str:
    drawn = shown.picture
    if not drawn.cells:
        return "No queues."
    owners = "; ".join(f"{entry.text}: {entry.counted}" for entry in drawn.legend.values())
    return (
        f"Adapters down, {len(drawn.types)}, domains across, {len(drawn.domains)}: "
        f"{count_queues(len(drawn.cells))}. {owners}. Pending returns: {shown.pending}."
    )


def _title(drawing: Drawing, shown: Report, title: str) -> None:
    drawing.text(LEFT, title, "title", down=26)
    drawing.y += 8
    for name, value in shown.facts:
        drawing.pair(name, value)
    drawing.y += 10


def _matrix(drawing: Drawing, drawn: Picture) -> None:
    if not drawn.cells:
        drawing.text(LEFT, "no queues", "", down=20)
    for start in range(0, len(drawn.domains), _COLUMNS):
        _block(drawing, drawn, drawn.domains[start : start + _COLUMNS])
        drawing.y += 14


def _block(drawing: Drawing, drawn: Picture, domains: tuple[int, ...]) -> None:
    """Some of the columns, with their headings and the names of the rows."""
    left = MARGIN
    places = [left + i * CELL + i // _GROUP * _GAP for i in range(len(domains))]
    drawing.y += 14
    # Each word stands over the ids that it names: domains across, adapters down.
    drawing.put(f'<text class="label" x="{left}" y="{drawing.y}">domain</text>')
    drawing.y += 14
    drawing.put(f'<text class="label end" x="{left - 10}" y="{drawing.y}">adapter</text>')
    for x, domain in zip(places, domains):
        drawing.put(f'<text class="id middle" x="{x + CELL // 2}" y="{drawing.y}">{domain:04x}</text>')
    if decimal(max(domains)):
        drawing.y += 12
        for x, domain in zip(places, domains):
            drawing.put(f'<text class="decimal middle" x="{x + CELL // 2}" y="{drawing.y}">{domain}</text>')
    drawing.y += 6
    drawing.wide(places[-1] + CELL)
    for adapter, card in drawn.types.items():
        _row_name(drawing, adapter, card)
        for x, domain in zip(places, domains):
            queue = Apqn(adapter, domain)
            if queue in drawn.cells:
                drawing.parts.extend(_square(drawn, queue, x, drawing.y))
        drawing.y += CELL


def _row_name(drawing: Drawing, adapter: int, card: str) -> None:
    y, right = drawing.y + CELL // 2 + 4, MARGIN - 10
    drawing.put(f'<text class="label" x="{LEFT}" y="{y}">{escape(card)}</text>')
    beside = f'<tspan class="decimal">{adapter}  </tspan>' if decimal(adapter) else ""
    drawing.put(f'<text class="id end" x="{right}" y="{y}">{beside}{adapter:02x}</text>')


def _square(drawn: Picture, queue: Apqn, x: int, y: int) -> Iterator[str]:
    cell = drawn.cells[queue]
    entry = drawn.legend[cell.owner]
    said = ", ".join(filter(None, (entry.text, cell.state)))
    yield f'<g class="q" transform="translate({x} {y})"><title>{queue}: {escape(said)}</title>'
    yield f"{square(entry, cell.state)}</g>"


_LINE = CELL + 4
_SPACE = 10
_COUNT = 26
_ANY = Entry(HOST, "", None, "", 0, ())
_TWO_COLUMNS = 6
"""From so many entries on the legend has two columns, if both fit."""


def _notes(drawing: Drawing, shown: Report) -> None:
    """Put leases, pending returns and drift below the matrix."""
    for heading, sentences, kind in (
        ("Leases", shown.leases, ""),
        ("Pending returns", (shown.pending,), ""),
        ("Drift", shown.drift, "warning"),
    ):
        if sentences:
            drawing.y += 6
            drawing.text(LEFT, heading, "head")
        for sentence in sentences:
            drawing.paragraph(LEFT, sentence, kind)


def _legend(drawing: Drawing, drawn: Picture) -> None:
    if not drawn.cells:
        return
    entries = list(drawn.legend.values())
    longest = max(columns(f"{entry.text}{entry.counted}") for entry in entries)
    width = int(CELL + _SPACE + _COUNT + longest * CHARACTER)
    drawing.wide(LEFT + width)
    room = drawing.width - 2 * LEFT
    two = len(entries) >= _TWO_COLUMNS and 2 * width <= room
    lines = -(-len(entries) // 2) if two else len(entries)
    top = drawing.y
    for i, entry in enumerate(entries):
        x = LEFT + (i // lines) * (room // 2)
        said = f'{escape(entry.text)}<tspan class="count">   {escape(entry.counted)}</tspan>'
        _item(drawing, x, top + i % lines * _LINE, square(entry), said)
    drawing.y += lines * _LINE
    for state in STATES:
        if any(cell.state == state for cell in drawn.cells.values()):
            said = "in use by a running guest" if state == IN_USE else f"{state}: no work gets through"
            _item(drawing, LEFT, drawing.y, square(_ANY, state), said)
            drawing.y += _LINE
    if drawn.lost:
        drawing.paragraph(LEFT, drawn.lost, "warning")


def _item(drawing: Drawing, x: int, y: int, beside: str, words: str) -> None:
    """Put a square and, beside it, its meaning."""
    drawing.put(f'<g transform="translate({x} {y})">{beside}')
    drawing.put(f'<text x="{CELL + _SPACE}" y="{CELL // 2 + 5}">{words}</text></g>')


_PLAIN = {HOST: "host", RESERVED: "host", FREE: "free", UNBOUND: "unbound"}


def square(entry: Entry, state: str = "") -> str:
    """The square of a queue of that owner in that state, at the origin."""
    side, middle = CELL - 2, CELL // 2
    area = f'x="1" y="1" width="{side}" height="{side}" rx="3"'
    kind = _PLAIN.get(entry.owner) or f"hue{entry.hue}"
    hatch = f'<rect fill="url(#apvfio-hatch)" {area}/>' if entry.owner == RESERVED else ""
    small = " small" if len(entry.mark) > 1 else ""
    faint = " quiet" if entry.owner == HOST else ""
    mark = f'<text class="mark{small}{faint}" x="{middle}" y="{middle + 5}">{escape(entry.mark)}</text>'
    return f'<rect class="{kind}" {area}/>{hatch}{mark}{_sign(state)}'


def _sign(state: str) -> str:
    """What marks the square of a queue in that state: a corner if it is in use, a stroke if it cannot be."""
    if not state:
        return ""
    side = CELL - 1
    if state == IN_USE:
        return f'<path class="inuse" d="M{side - 9} 1H{side}V10Z"/>'
    return f'<path class="stroke" d="M3 {side - 2}L{side - 2} 3"/>'

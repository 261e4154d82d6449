# SPDX-License-Identifier: Apache-2.0
"""The square of one queue in an SVG picture, and in its legend."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from apvfio.model.owners import FREE, HOST, UNBOUND
from apvfio.model.queue_states import IN_USE
from apvfio.view.picture import RESERVED
from apvfio.view.svg_parts import CELL

if TYPE_CHECKING:
    from apvfio.view.picture import Entry

_PLAIN = {HOST: "host", RESERVED: "host", FREE: "free", UNBOUND: "unbound"}


def square(entry: Entry, state: str = "") -> str:
    """The square of a queue of that owner in that state, at the origin."""
    side = CELL - 2
    kind = _PLAIN.get(entry.owner) or f"hue{entry.hue}"
    parts = [f'<rect class="{kind}" x="1" y="1" width="{side}" height="{side}" rx="3"/>']
    if entry.owner == RESERVED:
        parts.append(f'<rect fill="url(#apvfio-hatch)" x="1" y="1" width="{side}" height="{side}" rx="3"/>')
    small = " small" if len(entry.mark) > 1 else ""
    faint = " quiet" if entry.owner == HOST else ""
    middle = CELL // 2
    parts.append(
        f'<text class="mark{small}{faint}" x="{middle}" y="{middle + 5}">{escape(entry.mark)}</text>'
    )
    parts.append(_sign(state))
    return "".join(parts)


def _sign(state: str) -> str:
    """What marks the square of a queue in that state: a corner if it is in use, a stroke if it cannot be."""
    if not state:
        return ""
    side = CELL - 1
    if state == IN_USE:
        return f'<path class="inuse" d="M{side - 9} 1H{side}V10Z"/>'
    return f'<path class="stroke" d="M3 {side - 2}L{side - 2} 3"/>'

# SPDX-License-Identifier: Apache-2.0
"""The parts of an SVG picture: a sheet that grows downwards, and its styles."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from apvfio.view.columns import fold


class Colors(NamedTuple):
    """One set; ``#rrggbb`` each."""

    paper: str
    ink: str
    faint: str
    """For ids in decimal, rules and the marks of queues that nothing happens to."""
    warning: str
    host: str
    """The ground of the host's queues."""
    hatch: str
    """The stripes over it where they are reserved."""
    edge: str
    hues: tuple[str, ...]
    """The grounds of guests' and devices' queues, `apvfio.view.picture.HUES` of them."""


LIGHT = Colors(
    paper="#ffffff",
    ink="#111827",
    faint="#555c66",
    warning="#a11212",
    host="#eef0f3",
    hatch="#b9bfc9",
    edge="#8b929c",
    hues=("#a9cbff", "#ffc48a", "#a9e3ae", "#ffb3d1", "#f0df6b", "#cfbcff", "#93e0dd", "#dcc2a6"),
)
DARK = Colors(
    paper="#12161c",
    ink="#f4f6f8",
    faint="#a5adb8",
    warning="#ff9d94",
    host="#252b34",
    hatch="#4a5361",
    edge="#6b7480",
    hues=("#1f4f96", "#8a4a10", "#1c6630", "#8f2759", "#655600", "#5a3da0", "#0f6264", "#66482c"),
)


CELL = 28
"""The side of a queue's square with the gap around it; all lengths are in px."""
LEFT = 16
MARGIN = 144
"""Where the columns of the matrix begin."""
_NARROWEST = 640
LINE = 17
CHARACTER = 7.3
"""How wide a character of the text is at most, on average: a proportional font of 13 px."""
_PAIR = 72

_SANS = "system-ui,-apple-system,'Segoe UI','DejaVu Sans',Arial,sans-serif"
_MONO = "ui-monospace,'DejaVu Sans Mono','Liberation Mono',Menlo,Consolas,monospace"


class Drawing:
    """A sheet of paper. ``y`` is how far down it is filled."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 0
        self._right = _NARROWEST - LEFT

    @property
    def width(self) -> int:
        """Of the whole sheet."""
        return self._right + LEFT

    def put(self, part: str) -> None:
        """Add an element."""
        self.parts.append(part)

    def wide(self, right: int) -> None:
        """Make the sheet wide enough for something that ends at ``right``."""
        self._right = max(self._right, right)

    def text(self, x: int, words: str, kind: str, *, down: int = LINE) -> None:
        """One line of text, ``down`` below the last."""
        self.y += down
        named = f' class="{kind}"' if kind else ""
        self.put(f'<text{named} x="{x}" y="{self.y}">{escape(words)}</text>')

    def paragraph(self, x: int, words: str, kind: str = "") -> None:
        """As many lines of text as it takes."""
        room = int((self.width - LEFT - x) / CHARACTER)
        for i, line in enumerate(fold(words, room, 0)):
            self.text(x + (12 if i else 0), line.strip(), kind)

    def pair(self, name: str, value: str) -> None:
        """A name and, beside it, its value."""
        before = self.y
        self.text(LEFT, name, "label")
        self.y = before
        self.paragraph(LEFT + _PAIR, value)


def style() -> str:
    """The styles of the picture, for light and dark; on paper it is light."""
    return (
        f".apvfio text{{font:13px {_SANS}}}"
        ".apvfio .title{font-size:20px;font-weight:600}.apvfio .head{font-weight:600}"
        f".apvfio .id{{font:10px {_MONO}}}.apvfio .decimal{{font:9px {_MONO}}}"
        ".apvfio .label,.apvfio .count{font-size:12px}"
        ".apvfio text.middle,.apvfio text.mark{text-anchor:middle}.apvfio text.end{text-anchor:end}"
        f".apvfio text.mark{{font:700 13px {_MONO}}}.apvfio text.small{{font-size:10px}}"
        ".apvfio text,.apvfio tspan{white-space:pre}"
        ".apvfio .hatch{stroke:none}.apvfio .free{stroke-width:1.5}"
        ".apvfio .unbound{stroke-dasharray:3 2;stroke-width:1.5}"
        ".apvfio .stroke{stroke-width:2;fill:none}"
        f"{_colors(LIGHT)}"
        f"@media (prefers-color-scheme:dark){{{_colors(DARK)}}}"
        f"@media print{{{_colors(LIGHT)}.apvfio rect,.apvfio path{{print-color-adjust:exact;"
        "-webkit-print-color-adjust:exact}}"
    )


def _colors(colors: Colors) -> str:
    hues = "".join(
        f".apvfio .hue{i}{{fill:{fill};stroke:{colors.edge}}}" for i, fill in enumerate(colors.hues)
    )
    return (
        f".apvfio .paper{{fill:{colors.paper}}}.apvfio text{{fill:{colors.ink}}}"
        f".apvfio text.label,.apvfio .decimal,.apvfio .count,.apvfio text.quiet{{fill:{colors.faint}}}"
        f".apvfio text.warning{{fill:{colors.warning}}}"
        f".apvfio .host{{fill:{colors.host};stroke:{colors.edge}}}.apvfio .hatch{{fill:{colors.hatch}}}"
        f".apvfio .free,.apvfio .unbound{{fill:{colors.paper};stroke:{colors.ink}}}"
        f".apvfio .inuse{{fill:{colors.ink}}}.apvfio .stroke{{stroke:{colors.warning}}}{hues}"
    )

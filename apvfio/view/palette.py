# SPDX-License-Identifier: Apache-2.0
"""The colors of drawn pictures: for a light page, which is also what is printed, and for a dark one.

Text stands on every ground with a contrast of at least 4.5 to 1 (WCAG 2.1, 1.4.3).
"""

from __future__ import annotations

from typing import NamedTuple


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

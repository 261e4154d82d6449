# SPDX-License-Identifier: Apache-2.0
"""Colors of problems and warnings in a terminal; apart from the matrix, nothing else is colored."""

from __future__ import annotations

RED, YELLOW = "31", "33"
"""Of problems, and of warnings."""


def painted(text: str, color: str, *, on: bool) -> str:
    """Return ``text`` in that color if it is ``on``; an empty text stays empty."""
    return f"\x1b[{color}m{text}\x1b[0m" if on and text else text

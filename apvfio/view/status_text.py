# SPDX-License-Identifier: Apache-2.0
"""The whole of ``apvfio status`` in lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.view.columns import fold
from apvfio.view.matrix_text import matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.view.matrix_text import Look
    from apvfio.view.status_report import Report


def status(told: Report, look: Look) -> Iterator[str]:
    """What the command prints, line by line."""
    width = look.width if look.folds else None
    for name, value in told.facts:
        yield from fold(f"{name:<9}  {value}", width, 11)
    yield ""
    yield from matrix(told.picture, look)
    yield ""
    for sentence in (*told.leases, f"owed to the host: {told.pending}"):
        yield from fold(sentence, width)
    if told.drift:
        yield ""
        for line in ("not as it should be:", *(f"  {sentence}" for sentence in told.drift)):
            yield from fold(line, width)

# SPDX-License-Identifier: Apache-2.0
"""Find many rows without cells in many columns by simulated annealing: for tables too large for a proof."""

from __future__ import annotations

from math import exp, sqrt
from random import Random

_SWEEPS = 400
"""Steps for each row."""
_HOT, _COLD = 1 / 3, 1 / 12
"""How much a step may lose, now and then, at the beginning and in the end: parts of what a row is worth."""


def rows_by_chance(taken_by: list[list[int]], always: int, width: int, known: int, seed: int) -> list[int]:
    """Which rows to keep so that they and the columns left, multiplied, are many; the same for each ``seed``.

    ``taken_by``: the columns that each row takes away if it is kept; ``always``: how many rows more are
    kept in any case; ``width``: how many columns there are; ``known``: how many cells a good choice keeps.
    """
    chance = Random(seed).random  # noqa: S311 - nothing secret
    steps = _SWEEPS * len(taken_by)
    kept = [False] * len(taken_by)
    times = {column: 0 for columns in taken_by for column in columns}
    heat, cooling = _HOT * sqrt(known + 1), (_COLD / _HOT) ** (1 / max(steps, 1))
    height, now = always, always * width
    best, most = kept[:], now
    for _ in range(steps):
        heat *= cooling
        row = int(chance() * len(taken_by))
        # If the row is kept, no other row takes these columns; if not, it would be the first to do so.
        edge = 1 if kept[row] else 0
        change = sum(times[column] == edge for column in taken_by[row])
        step = -1 if kept[row] else 1
        after = (height + step) * (width - step * change)
        if after < now and chance() >= exp((after - now) / heat):
            continue
        for column in taken_by[row]:
            times[column] += step
        kept[row], height, width, now = not kept[row], height + step, width - step * change, after
        if now > most:
            best, most = kept[:], now
    return [row for row, stays in enumerate(best) if stays]

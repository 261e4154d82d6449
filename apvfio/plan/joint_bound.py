# SPDX-License-Identifier: Apache-2.0
"""An upper bound, for the search, of the cells that can be kept if each kept row takes columns away.

The bound depends only on how many rows are kept, not on which. A column that is counted often enough must be
taken by some kept row, so that many kept rows together take at least so many columns away. No row keeps more
cells than there are columns left.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def most_kept(
    sure: list[int], hopes: list[int], takes: list[int], crowds: Sequence[int], columns: int
) -> int:
    """The most cells that stay, whichever of the undecided rows do.

    ``sure``: the cells of each row that stays in any case; ``hopes``: those of each undecided row, were it
    the only one to stay; ``takes``: the columns that each of these takes away; ``crowds``: how many columns
    one of them or more would take, two or more, and so on; ``columns``: how many there are.
    """
    sure_ones, hoping = _Capped(sure), _Capped(hopes)
    most, taken = sure_ones.largest(len(sure), columns), 0
    for count, more in enumerate(sorted(takes), 1):
        taken += more
        left = columns - max(more, fewest(count, taken, crowds))
        if left <= 0:
            break  # and so it is if more rows stay
        most = max(most, sure_ones.largest(len(sure), left) + hoping.largest(count, left))
    return most


def fewest(count: int, taken: int, crowds: Sequence[int]) -> int:
    """How many different columns ``count`` rows take at least if they take ``taken``, repeats included.

    The columns that most rows take are used up first, each ``count`` times at most.
    """
    number, above = 0, 0
    for share in range(len(crowds), 0, -1):
        these, above = crowds[share - 1] - above, crowds[share - 1]
        times = min(share, count)
        if taken <= these * times:
            return number - (-taken // times)
        number, taken = number + these, taken - these * times
    return number


class _Capped:
    """Numbers of which the largest are added up, each up to a cap."""

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = sorted(numbers)
        self._sums = [0, *accumulate(reversed(self._numbers))]

    def largest(self, count: int, cap: int) -> int:
        """The sum of the ``count`` largest."""
        above = min(count, len(self._numbers) - bisect_right(self._numbers, cap))
        return above * cap + self._sums[count] - self._sums[above]

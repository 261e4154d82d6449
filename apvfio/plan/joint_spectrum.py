# SPDX-License-Identifier: Apache-2.0
"""How many cells rows and columns without a forbidden cell have in common at most: a bound by eigenvalues.

x and y say which rows and columns stay, z is both, one after the other. Then x'By is the number of cells
that stay, whatever B has at the forbidden cells: there x or y is zero. And as z is its own square, that is
no more than the most that d'z - z'(D - B/2)z takes anywhere, D the diagonal of d: d'(D - B/2)^-1 d / 4 if
D - B/2 (B in both corners) is positive definite. So each d and each B prove something. Where rows have
about as many forbidden cells, somewhere in each column, that is far less than half of all cells.
"""

from __future__ import annotations

from math import sqrt
from operator import mul

_ROUNDS = 40
"""Of the power method: what it returns needs no proof, the factors prove themselves."""
_STRETCHES = (1.04, 1.08, 1.12, 1.3)
"""By how much the diagonal is larger than the second eigenvalue asks for: tried one by one."""
_SLACK = 1e-6
"""What is taken off the diagonal, as a part: ten thousand times what rounding can amount to."""


def most_between(forbidden: list[list[int]], width: int) -> int:
    """The most cells without a forbidden one, of any rows in any of ``width`` columns.

    ``forbidden`` holds the columns of each row's forbidden cells.
    """
    height = len(forbidden)
    all_of_them = height * width
    by_column: list[list[int]] = [[] for _ in range(width)]
    for row, columns in enumerate(forbidden):
        for column in columns:
            by_column[column].append(row)
    if not any(forbidden):
        return all_of_them
    # Each cell divided by the roots of its row's and its column's number: the largest eigenvalue is one.
    roots = [sqrt(len(columns)) for columns in forbidden]
    row_part = [1 / root if root else 0.0 for root in roots]
    column_part = [1 / sqrt(len(rows)) if rows else 0.0 for rows in by_column]
    mean = sum(
        part * sum(map(column_part.__getitem__, columns)) for part, columns in zip(row_part, forbidden)
    ) / sqrt(all_of_them)
    second, most = max(_second(forbidden, by_column, roots, row_part, column_part), _SLACK), all_of_them
    for stretch in _STRETCHES:
        weight = 2 * sqrt(all_of_them) / (mean + second * stretch)
        diagonal = weight * second * stretch / 2
        across, down = diagonal * sqrt(width / height), diagonal * sqrt(height / width)
        share = 1 / (2 * sqrt(across))
        table = [[share] * height for _ in by_column]
        for column, rows in enumerate(by_column):
            for row in rows:
                table[column][row] = share * (1 - weight * row_part[row] * column_part[column])
        proven = _proven(table, across, down)
        most = most if proven is None else min(most, proven)
    return most


def _second(
    forbidden: list[list[int]],
    by_column: list[list[int]],
    roots: list[float],
    row_part: list[float],
    column_part: list[float],
) -> float:
    """About the second largest singular value of the scaled cells: the vector of the largest is ``roots``."""
    norm = sum(map(mul, roots, roots))
    vector = [(row * 7919 % 1009) / 1009 - 0.5 for row in range(len(forbidden))]
    second = 0.0
    for _ in range(_ROUNDS):
        part = sum(map(mul, vector, roots)) / norm
        vector = [value - part * root for value, root in zip(vector, roots)]
        size = sqrt(sum(map(mul, vector, vector))) or 1.0
        scaled = [value * part / size for value, part in zip(vector, row_part)]
        across = [
            part * part * sum(map(scaled.__getitem__, rows)) for part, rows in zip(column_part, by_column)
        ]
        vector = [part * sum(map(across.__getitem__, columns)) for part, columns in zip(row_part, forbidden)]
        second = sqrt(sqrt(sum(map(mul, vector, vector))))
    return second


def _proven(table: list[list[float]], across: float, down: float) -> int | None:
    """The bound by Cholesky's factors; None if what ``table`` comes from is not positive definite.

    ``table``: B by columns, divided by twice the root of ``across``, the diagonal at the rows; ``down``: the
    diagonal at the columns. The rows are eliminated by that, and each column is followed by its factors.
    """
    done: list[list[float]] = []
    for column in table:
        for other in done:
            column.append(-sum(map(mul, column, other)) / other[-1])
        pivot = down * (1 - _SLACK) - sum(map(mul, column, column))
        if pivot <= down * _SLACK:
            return None
        column.append(sqrt(pivot))
        done.append(column)
    last = [-sqrt(across) / 2] * (len(table[0]) - 1)
    for other in done:
        last.append((down / 2 - sum(map(mul, last, other))) / other[-1])
    return int(sum(map(mul, last, last)) * (1 + _SLACK))

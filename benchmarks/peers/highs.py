# SPDX-License-Identifier: Apache-2.0
"""The ways of all guests chosen by HiGHS: the same problem as a mixed-integer program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.model.host import Host
    from apvfio.model.matrix import Matrix

_QUEUE = 1024
"""What a queue weighs against a mask bit, as in `apvfio.plan.joint`."""


class Model:
    """Variables: each guest's way (1: by adapters), each adapter's and domain's bit, each unasked queue lost.

    A guest freed by its adapters clears all of them, else all its domains; an unasked queue is lost
    if its adapter or its domain is cleared. All but the ways and the bits of one side may be continuous.
    """

    def __init__(self, guests: Sequence[Matrix], host: Host) -> None:
        asked = {queue for matrix in guests for queue in matrix.queues()}
        unasked = [queue for queue in host.drivers if queue not in asked]
        adapters, domains = sorted(host.adapters), sorted(host.domains)
        x = {a: len(guests) + i for i, a in enumerate(adapters)}
        y = {d: len(guests) + len(adapters) + i for i, d in enumerate(domains)}
        lost = len(guests) + len(adapters) + len(domains)
        cells: list[tuple[int, int, int]] = []
        least: list[int] = []

        def at_least(bound: int, *terms: tuple[int, int]) -> None:
            cells.extend((len(least), variable, factor) for variable, factor in terms)
            least.append(bound)

        for g, matrix in enumerate(guests):
            for adapter in matrix.adapters:
                at_least(0, (x[adapter], 1), (g, -1))
            for domain in matrix.domains:
                at_least(1, (y[domain], 1), (g, 1))
        for i, queue in enumerate(unasked):
            at_least(0, (lost + i, 1), (x[queue.adapter], -1))
            at_least(0, (lost + i, 1), (y[queue.domain], -1))
        size = lost + len(unasked)
        rows, columns, values = zip(*cells)
        self._matrix = coo_array((values, (rows, columns)), shape=(len(least), size)).tocsr()
        self._least = np.array(least)
        self._cost = np.zeros(size)
        self._cost[len(guests) : lost] = 1
        self._cost[lost:] = _QUEUE
        self._integer = np.zeros(size)
        self._integer[: len(guests)] = 1
        self._lost = lost

    def solve(self) -> int:
        """How many unasked queues the host loses at the proven optimum."""
        found = milp(
            self._cost,
            integrality=self._integer,
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(self._matrix, lb=self._least),
            options={"mip_rel_gap": 0},
        )
        if not found.success:
            raise RuntimeError(found.message)
        return int(found.x[self._lost :].sum().round())

# SPDX-License-Identifier: Apache-2.0
"""Which adapters can serve a request for several kinds of adapters: each serves one kind.

The sets of adapters that can be assigned in this way are the independent sets of a matroid, a gammoid: flows
from adapters over the kinds, and over the generations of a kind in which no two adapters may share one.
Therefore the greedy choice is the cheapest set: take the adapters in the order of their price, and leave out
each that cannot be assigned together with those before it.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class Kind(NamedTuple):
    """How many adapters of a kind are required."""

    adapters: int
    distinct: bool = False
    """Whether no two may be of one generation."""


class Assignment:
    """Adapters assigned to kinds. One that is added may move others, but never makes one leave."""

    def __init__(self, kinds: Sequence[Kind], generations: Mapping[int, int]) -> None:
        self._kinds = kinds
        self._generations = generations
        self._fit: dict[int, Sequence[int]] = {}
        self._kind: dict[int, int] = {}

    @property
    def adapters(self) -> list[int]:
        """Those that are assigned."""
        return list(self._kind)

    def add(self, adapter: int, fit: Sequence[int]) -> bool:
        """Assign ``adapter`` to one of the kinds that it ``fit``s; whether that was possible."""
        self._fit[adapter] = fit
        return self._place(adapter, set())

    def _place(self, adapter: int, tried: set[tuple[int, int]]) -> bool:
        """Put ``adapter`` into a kind, moving another one if it must (an augmenting path)."""
        mine = self._generations.get(adapter, 0)
        for kind in self._fit[adapter]:
            wanted = self._kinds[kind]
            # Each place is tried once: of a kind, or of a generation in it.
            place = (kind, mine if wanted.distinct else -1)
            if place in tried:
                continue
            tried.add(place)
            there = [one for one, its in self._kind.items() if its == kind and one != adapter]
            alike = [one for one in there if wanted.distinct and self._generations.get(one, 0) == mine]
            if not alike and len(there) < wanted.adapters:
                self._kind[adapter] = kind
                return True
            for other in alike or there:
                if self._move(other, adapter, kind, tried):
                    return True
        return False

    def _move(self, other: int, adapter: int, kind: int, tried: set[tuple[int, int]]) -> bool:
        del self._kind[other]
        self._kind[adapter] = kind
        if self._place(other, tried):
            return True
        del self._kind[adapter]
        self._kind[other] = kind
        return False


def can_serve(
    kinds: Sequence[Kind], adapters: Mapping[int, Sequence[int]], generations: Mapping[int, int]
) -> bool:
    """Whether ``adapters``, each with the kinds that it fits, are just those that ``kinds`` require."""
    made = Assignment(kinds, generations)
    return len(adapters) == sum(kind.adapters for kind in kinds) and all(
        made.add(adapter, fit) for adapter, fit in adapters.items()
    )


def cheapest_adapters(
    kinds: Sequence[Kind],
    by_price: Collection[int],
    fit: Mapping[int, Sequence[int]],
    generations: Mapping[int, int],
) -> list[int]:
    """Return the first of ``by_price`` that can be assigned together; too few if no more can."""
    made, missing = Assignment(kinds, generations), sum(kind.adapters for kind in kinds)
    for adapter in by_price:
        if not missing:
            break
        missing -= made.add(adapter, fit[adapter])
    return made.adapters

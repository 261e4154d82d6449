# SPDX-License-Identifier: Apache-2.0
"""The cheapest rectangle of a given size in a grid of queues, of which only some may be used.

For a given set of adapters the best domains are found one by one: freed by its adapters a
rectangle costs the other queues of those adapters, so that the domains in which most of them
have a queue of the host's are best; freed by its domains, each domain has its own price. The
same holds the other way round. So the search goes through the sets of one side, that with
fewer of them, and takes the other side greedily, and both ways to free are exact for every set.

Adapters that are alike in everything, as most on a real host are, count as one kind: of a kind
those with the lowest ids are taken. So all adapters alike make one set to look at, and 16 that
all differ 12,870 at most. Beyond `LIMIT` steps the search ends with the best found until
then: the answer is a rectangle that satisfies everything, yet perhaps not the cheapest.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from apvfio.model.ids import bit_count
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT = 60_000
"""Steps of one search: some seconds on a host whose adapters are all different."""


class Line(NamedTuple):
    """An adapter, with the domains as bits; or a domain, with the adapters as bits."""

    id: int
    usable: int
    """Where its queues would do for the guest."""
    hosts: int = 0
    """Where its queues are the host's by the masks: those it may lose."""
    masked: bool = False
    """Whether its mask bit is set, so that freeing it takes a change."""
    closed: bool = False
    """Whether freeing it would take a queue that must stay with the host."""
    load: int = 0
    """How many queues it serves guests with."""


class Rectangle(NamedTuple):
    """One choice, and what it costs in the order of weight: ``min`` takes the best."""

    against_preference: bool
    collateral: int
    bits: int
    load: int
    adapters: tuple[int, ...]
    domains: tuple[int, ...]


def cheapest(
    adapters: Sequence[Line], domains: Sequence[Line], height: int, width: int, prefer: str = ""
) -> Rectangle | None:
    """The best rectangle of ``height`` adapters and ``width`` domains, None if there is none.

    ``prefer`` is the way that the policy wants: only if no rectangle can be freed that way, the
    other one is taken.
    """
    adapters = [line for line in adapters if bit_count(line.usable) >= width]
    domains = [line for line in domains if bit_count(line.usable) >= height]
    both = (BY_ADAPTERS, BY_DOMAINS)
    if _sets(adapters, height) <= _sets(domains, width):
        search = _Search(adapters, domains, height, width, ways=both, prefer=prefer)
    else:
        search = _Search(domains, adapters, width, height, ways=both[::-1], prefer=prefer)
    return search.run()


class _Search:
    def __init__(
        self,
        lines: Sequence[Line],
        places: Sequence[Line],
        height: int,
        width: int,
        *,
        ways: tuple[str, str],
        prefer: str,
    ) -> None:
        self._kinds = _kinds(lines)
        self._places = {place.id: place for place in places}
        self._height, self._width = height, width
        self._flipped = ways[0] == BY_DOMAINS
        self._against = tuple(bool(prefer) and way != prefer for way in ways)
        self._steps = 0

    def run(self) -> Rectangle | None:
        everywhere = sum(1 << place for place in self._places)
        found: Rectangle | None = None
        for lines, common in self._sets(0, [], everywhere):
            for rectangle in self._by_lines(lines, common), self._by_places(lines, common):
                if rectangle and (found is None or rectangle < found):
                    found = rectangle
        return found

    def _sets(self, depth: int, taken: list[Line], common: int) -> Iterator[tuple[list[Line], int]]:
        """The sets of lines, one for each choice of how many of each kind, and the places usable in all."""
        self._steps += 1
        missing = self._height - len(taken)
        if not missing:
            yield taken, common
        elif depth < len(self._kinds):
            kind = self._kinds[depth]
            narrowed = common & kind[0].usable
            most = min(missing, len(kind)) if bit_count(narrowed) >= self._width else 0
            rest = sum(map(len, self._kinds[depth + 1 :]))
            for n in range(most, max(0, missing - rest) - 1, -1):
                if self._steps > LIMIT:
                    return
                yield from self._sets(depth + 1, taken + kind[:n], narrowed if n else common)

    def _by_lines(self, lines: list[Line], common: int) -> Rectangle | None:
        """The best places if the lines are cleared: those in which most of them lose a queue anyway."""
        if any(line.closed for line in lines):
            return None
        own = sum(1 << line.id for line in lines)
        inside = {p: bit_count(self._places[p].hosts & own) for p in _ids(common)}
        places = sorted(inside, key=lambda p: (-inside[p], self._places[p].load, p))[: self._width]
        lost = sum(bit_count(line.hosts) for line in lines) - sum(inside[p] for p in places)
        return self._rectangle(0, lost, sum(line.masked for line in lines), lines, places)

    def _by_places(self, lines: list[Line], common: int) -> Rectangle | None:
        """The best places if they are cleared: those with the fewest queues elsewhere."""
        own = sum(1 << line.id for line in lines)
        chosen = sorted(
            (bit_count(place.hosts & ~own), place.masked, place.load, p)
            for p in _ids(common)
            if not (place := self._places[p]).closed
        )[: self._width]
        if len(chosen) < self._width:
            return None
        lost, bits = sum(price[0] for price in chosen), sum(price[1] for price in chosen)
        return self._rectangle(1, lost, bits, lines, [price[3] for price in chosen])

    def _rectangle(self, way: int, lost: int, bits: int, lines: list[Line], places: list[int]) -> Rectangle:
        load = sum(line.load for line in lines) + sum(self._places[p].load for p in places)
        ids = tuple(sorted(line.id for line in lines)), tuple(sorted(places))
        adapters, domains = reversed(ids) if self._flipped else ids
        return Rectangle(self._against[way], lost, bits, load, adapters, domains)


def _kinds(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines that are alike but for their ids, together; those first that promise to be cheap."""

    def alike(line: Line) -> tuple[bool, int, int, bool, int]:
        return (line.closed, line.load, line.hosts, line.masked, line.usable)

    by_kind = groupby(sorted(lines, key=lambda line: (*alike(line), line.id)), key=alike)
    kinds = [list(group) for _, group in by_kind]
    return sorted(
        kinds, key=lambda kind: (kind[0].closed, bit_count(kind[0].hosts), kind[0].load, kind[0].id)
    )


def _sets(lines: Sequence[Line], size: int) -> int:
    """How many sets of that size there are, counting by kinds."""
    counts = [1] + [0] * size
    for kind in _kinds(lines):
        counts = [sum(counts[max(0, n - len(kind)) : n + 1]) for n in range(size + 1)]
    return counts[size]


def _ids(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low

# SPDX-License-Identifier: Apache-2.0
"""The cheapest rectangle of a given size in a grid of queues, of which only some may be used.

For a given set of adapters the best domains are found one by one: freed by its adapters a
rectangle costs the other queues of those adapters, so that the domains in which most of them
have a queue of the host's are best; freed by its domains, each domain has its own price. The
same holds the other way round. So the search goes through the sets of one side, that with
fewer of them, and takes the other side greedily, and both ways to free are exact for every set.

A request may be for several kinds of adapters, each of which can use other queues. Then an adapter
is assigned to one kind: the search through the sets of adapters goes through the assignments, and the
greedy choice of adapters takes those that can be assigned together (`apvfio.plan.selection_assignment`),
which is exact as well.

Adapters that are alike in everything, as most on a real host are, count as one group: of a group
those with the lowest ids are taken. So all adapters alike make one set to look at, and 16 that
all differ 12,870 at most. Beyond `LIMIT` steps the search ends with the best found until
then: the answer is a rectangle that satisfies everything, yet perhaps not the cheapest.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import NamedTuple

from apvfio.model.ids import bit_count
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.plan.selection_assignment import cheapest_adapters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.plan.selection_assignment import Kind

LIMIT = 60_000
"""Steps of one search: some seconds on a host whose adapters are all different."""
_MOST_STATES = 4_000
"""Beyond so many ways to have taken a part of each kind, the sets of adapters are not counted."""


class Line(NamedTuple):
    """An adapter, with the domains as bits; or a domain, with the adapters as bits."""

    id: int
    usable: tuple[int, ...]
    """For each kind, where its queues would do for the guest."""
    hosts: int = 0
    """Where its queues are the host's by the masks: those it may lose."""
    masked: bool = False
    """Whether its mask bit is set, so that freeing it takes a change."""
    closed: bool = False
    """Whether freeing it would take a queue that must stay with the host."""
    load: int = 0
    """How many queues it serves guests with."""
    generation: int = 0
    """Of an adapter, where the request depends on it."""


class Rectangle(NamedTuple):
    """One choice, and its cost in the order of weight: ``min`` takes the best."""

    against_preference: bool
    collateral: int
    bits: int
    load: int
    adapters: tuple[int, ...]
    domains: tuple[int, ...]


def cheapest(
    adapters: Sequence[Line], domains: Sequence[Line], kinds: Sequence[Kind], width: int, prefer: str = ""
) -> Rectangle | None:
    """The best rectangle with the adapters of all ``kinds`` and ``width`` domains, None if there is none.

    ``prefer`` is the way that the policy wants: only if no rectangle can be freed that way, the
    other one is taken.
    """
    adapters = [line for line in adapters if any(bit_count(usable) >= width for usable in line.usable)]
    domains = [
        line
        for line in domains
        if all(bit_count(usable) >= kind.adapters for usable, kind in zip(line.usable, kinds))
    ]
    searches: tuple[_Search, _Search] = (
        _ByAdapters(adapters, domains, kinds, width, prefer),
        _ByDomains(adapters, domains, kinds, width, prefer),
    )
    return min(searches, key=lambda search: search.sets()).run()


class _Search:
    """Goes through the sets of lines of one side; what it takes of the other are places."""

    ways: tuple[str, str]
    """How the queues are freed if the lines are cleared, and if the places are."""

    def __init__(
        self,
        lines: Sequence[Line],
        places: Sequence[Line],
        kinds: Sequence[Kind],
        width: int,
        prefer: str,
    ) -> None:
        self._groups = _groups(lines)
        self._places = {place.id: place for place in places}
        self._kinds, self._width = kinds, width
        self._height = sum(kind.adapters for kind in kinds)
        self._against = tuple(bool(prefer) and way != prefer for way in self.ways)
        self._steps = 0

    def sets(self) -> float:
        """Return the number of sets to try, counting by groups; infinite if they are too many to count."""
        raise NotImplementedError

    def run(self) -> Rectangle | None:
        """The best rectangle; None if there is none."""
        found: Rectangle | None = None
        for lines, common in self._chosen():
            for rectangle in self._by_lines(lines, common), self._by_places(lines, common):
                if rectangle and (found is None or rectangle < found):
                    found = rectangle
        return found

    def _chosen(self) -> Iterator[tuple[list[Line], tuple[int, ...]]]:
        """The sets of lines, each with the places that are usable in all, as bits (by kind, for adapters)."""
        raise NotImplementedError

    def _taken(self, ordered: Sequence[int], common: tuple[int, ...]) -> list[int] | None:
        """The best places among those ``ordered`` by price; None if they do not suffice."""
        raise NotImplementedError

    def _ids(self, lines: list[Line], places: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The adapters and the domains."""
        raise NotImplementedError

    def _by_lines(self, lines: list[Line], common: tuple[int, ...]) -> Rectangle | None:
        """The best places if the lines are cleared: those in which most of them lose a queue anyway."""
        if any(line.closed for line in lines):
            return None
        own = sum(1 << line.id for line in lines)
        inside = {p: bit_count(self._places[p].hosts & own) for p in _ids(_any_of(common))}
        ordered = sorted(inside, key=lambda p: (-inside[p], self._places[p].load, p))
        places = self._taken(ordered, common)
        if places is None:
            return None
        lost = sum(bit_count(line.hosts) for line in lines) - sum(inside[p] for p in places)
        return self._rectangle(0, lost, sum(line.masked for line in lines), lines, places)

    def _by_places(self, lines: list[Line], common: tuple[int, ...]) -> Rectangle | None:
        """The best places if they are cleared: those with the fewest queues elsewhere."""
        own = sum(1 << line.id for line in lines)
        prices = {
            p: (bit_count(place.hosts & ~own), place.masked, place.load, p)
            for p in _ids(_any_of(common))
            if not (place := self._places[p]).closed
        }
        places = self._taken(sorted(prices, key=prices.__getitem__), common)
        if places is None:
            return None
        lost, bits = sum(prices[p][0] for p in places), sum(prices[p][1] for p in places)
        return self._rectangle(1, lost, bits, lines, places)

    def _rectangle(self, way: int, lost: int, bits: int, lines: list[Line], places: list[int]) -> Rectangle:
        load = sum(line.load for line in lines) + sum(self._places[p].load for p in places)
        return Rectangle(self._against[way], lost, bits, load, *self._ids(lines, places))


class _ByAdapters(_Search):
    """Goes through the assignments of adapters to kinds; of the domains any may be taken."""

    ways = (BY_ADAPTERS, BY_DOMAINS)

    def __init__(
        self,
        adapters: Sequence[Line],
        domains: Sequence[Line],
        kinds: Sequence[Kind],
        width: int,
        prefer: str,
    ) -> None:
        super().__init__(adapters, domains, kinds, width, prefer)
        self._left = self._suffixes()

    def sets(self) -> float:
        if math.prod(kind.adapters + 1 for kind in self._kinds) > _MOST_STATES:
            return math.inf
        counts = {tuple(kind.adapters for kind in self._kinds): 1}
        for group in self._groups:
            fit = self._fit(group, _any_of(group[0].usable))
            after: dict[tuple[int, ...], int] = {}
            for missing, n in counts.items():
                for taken in self._shares(missing, len(group), fit):
                    left = tuple(a - b for a, b in zip(missing, taken))
                    after[left] = after.get(left, 0) + n
            counts = after
        return counts.get((0,) * len(self._kinds), 0)

    def _chosen(self) -> Iterator[tuple[list[Line], tuple[int, ...]]]:
        missing = tuple(kind.adapters for kind in self._kinds)
        everywhere = sum(1 << place for place in self._places)
        for lines, common in self._assigned(0, [], missing, everywhere, frozenset()):
            yield lines, (common,)

    def _assigned(
        self,
        depth: int,
        taken: list[Line],
        missing: tuple[int, ...],
        common: int,
        generations: frozenset[tuple[int, int]],
    ) -> Iterator[tuple[list[Line], int]]:
        """One set for each choice of how many of each group serve which kind."""
        self._steps += 1
        if not any(missing):
            yield taken, common
            return
        if depth == len(self._groups) or any(n > left for n, left in zip(missing, self._left[depth])):
            return
        group = self._groups[depth]
        mine = group[0].generation
        fit = [kind for kind in self._fit(group, common) if (kind, mine) not in generations]
        for shares in self._shares(missing, len(group), fit):
            if self._steps > LIMIT:
                return
            narrowed = common
            for kind, n in enumerate(shares):
                narrowed &= group[0].usable[kind] if n else narrowed
            if bit_count(narrowed) < self._width:
                continue
            used = {(kind, mine) for kind, n in enumerate(shares) if n and self._kinds[kind].distinct}
            left = tuple(a - b for a, b in zip(missing, shares))
            rows = taken + group[: sum(shares)]
            yield from self._assigned(depth + 1, rows, left, narrowed, generations | used)

    def _shares(self, missing: tuple[int, ...], size: int, fit: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """How many of a group of ``size`` may serve each kind, the most first; ``fit`` are those it can."""
        if not fit:
            yield (0,) * len(missing)
            return
        kind, *rest = fit
        most = min(missing[kind], size, 1 if self._kinds[kind].distinct else size)
        for n in range(most, -1, -1):
            for others in self._shares(missing, size - n, rest):
                yield (*others[:kind], n, *others[kind + 1 :])

    def _fit(self, group: list[Line], among: int) -> list[int]:
        """The kinds that a group can serve with domains ``among`` these."""
        return [k for k, usable in enumerate(group[0].usable) if bit_count(usable & among) >= self._width]

    def _suffixes(self) -> list[tuple[int, ...]]:
        """For each group, how many adapters that can serve each kind are in it and those after it."""
        found = [(0,) * len(self._kinds)]
        for group in reversed(self._groups):
            fit = self._fit(group, _any_of(group[0].usable))
            found.append(tuple(n + (len(group) if k in fit else 0) for k, n in enumerate(found[-1])))
        return found[::-1]

    def _taken(self, ordered: Sequence[int], _common: tuple[int, ...]) -> list[int] | None:
        return list(ordered[: self._width]) if len(ordered) >= self._width else None

    def _ids(self, lines: list[Line], places: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(sorted(line.id for line in lines)), tuple(sorted(places))


class _ByDomains(_Search):
    """Goes through the sets of domains; of the adapters those may be taken that can be assigned together."""

    ways = (BY_DOMAINS, BY_ADAPTERS)

    def __init__(
        self,
        adapters: Sequence[Line],
        domains: Sequence[Line],
        kinds: Sequence[Kind],
        width: int,
        prefer: str,
    ) -> None:
        super().__init__(domains, adapters, kinds, width, prefer)
        self._generations = {line.id: line.generation for line in adapters}
        fit = {line.id: [kind for kind, usable in enumerate(line.usable) if usable] for line in adapters}
        self._apart = all(len(its) == 1 for its in fit.values()) and not any(one.distinct for one in kinds)
        self._kind_of = {adapter: its[0] for adapter, its in fit.items()}
        """Where no adapter can serve two kinds, the only one of each."""

    def sets(self) -> float:
        counts = [1] + [0] * self._width
        for group in self._groups:
            counts = [sum(counts[max(0, n - len(group)) : n + 1]) for n in range(self._width + 1)]
        return counts[self._width]

    def _chosen(self) -> Iterator[tuple[list[Line], tuple[int, ...]]]:
        everywhere = sum(1 << place for place in self._places)
        yield from self._sets(0, [], (everywhere,) * len(self._kinds))

    def _sets(
        self, depth: int, taken: list[Line], common: tuple[int, ...]
    ) -> Iterator[tuple[list[Line], tuple[int, ...]]]:
        """One set for each choice of how many of each group."""
        self._steps += 1
        missing = self._width - len(taken)
        if not missing:
            yield taken, common
        elif depth < len(self._groups):
            group = self._groups[depth]
            narrowed = tuple(a & b for a, b in zip(common, group[0].usable))
            enough = all(bit_count(bits) >= kind.adapters for bits, kind in zip(narrowed, self._kinds))
            most = min(missing, len(group)) if enough else 0
            rest = sum(map(len, self._groups[depth + 1 :]))
            for n in range(most, max(0, missing - rest) - 1, -1):
                if self._steps > LIMIT:
                    return
                yield from self._sets(depth + 1, taken + group[:n], narrowed if n else common)

    def _taken(self, ordered: Sequence[int], common: tuple[int, ...]) -> list[int] | None:
        if self._apart:
            found = self._first_of_each(ordered)
        else:
            fit = {a: [k for k, bits in enumerate(common) if bits >> a & 1] for a in ordered}
            found = cheapest_adapters(self._kinds, ordered, fit, self._generations)
        return found if len(found) == self._height else None

    def _first_of_each(self, ordered: Sequence[int]) -> list[int]:
        missing = [kind.adapters for kind in self._kinds]
        found = []
        for adapter in ordered:
            kind = self._kind_of[adapter]
            if missing[kind]:
                missing[kind] -= 1
                found.append(adapter)
                if len(found) == self._height:
                    break
        return found

    def _ids(self, lines: list[Line], places: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(sorted(places)), tuple(sorted(line.id for line in lines))


def _groups(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines that are alike but for their ids, together; those first that promise to be cheap."""

    def alike(line: Line) -> tuple[bool, int, int, bool, int, tuple[int, ...]]:
        return (line.closed, line.load, line.hosts, line.masked, line.generation, line.usable)

    by_group = groupby(sorted(lines, key=lambda line: (*alike(line), line.id)), key=alike)
    groups = [list(group) for _, group in by_group]
    return sorted(
        groups, key=lambda group: (group[0].closed, bit_count(group[0].hosts), group[0].load, group[0].id)
    )


def _any_of(bits: Sequence[int]) -> int:
    found = 0
    for one in bits:
        found |= one
    return found


def _ids(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low

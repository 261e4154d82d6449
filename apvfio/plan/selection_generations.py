# SPDX-License-Identifier: Apache-2.0
"""Criteria about the generations of adapters: all the same, or all distinct."""

from __future__ import annotations

from itertools import product

from apvfio.model.criteria import DISTINCT, SAME
from apvfio.plan.selection_assignment import Kind, can_serve
from apvfio.plan.selection_rectangle import cheapest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from apvfio.model.cards import CardFacts
    from apvfio.model.criteria import Criteria
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.plan.selection_rectangle import Line, Rectangle


def cheapest_of_generations(
    adapters: Sequence[Line], domains: Sequence[Line], criteria: Criteria, known: CardFacts, prefer: str = ""
) -> Rectangle | None:
    """The best rectangle for ``criteria``, as `apvfio.plan.selection_rectangle.cheapest`."""
    kinds = _kinds(criteria)
    generations = _generations(criteria, known)
    rows = [line._replace(generation=generations.get(line.id, 0)) for line in adapters]
    found = [
        best
        for chosen in _choices(criteria, generations)
        if (best := cheapest(*_only(rows, domains, chosen, generations), kinds, criteria.domains, prefer))
    ]
    return min(found, default=None)


def is_met(matrix: Matrix, criteria: Criteria, queues: Sequence[Collection[Apqn]], known: CardFacts) -> bool:
    """Whether ``matrix`` is of the size of ``criteria`` and its adapters can serve their kinds.

    ``queues`` are those that would do for each kind.
    """
    fit = {
        adapter: [
            kind
            for kind, its in enumerate(queues)
            if all((adapter, domain) in its for domain in matrix.domains)
        ]
        for adapter in matrix.adapters
    }
    if len(matrix.domains) != criteria.domains:
        return False
    generations = _generations(criteria, known)
    return any(
        can_serve(
            _kinds(criteria),
            {a: [k for k in its if chosen[k] in (None, generations.get(a))] for a, its in fit.items()},
            generations,
        )
        for chosen in _choices(criteria, generations)
    )


def _kinds(criteria: Criteria) -> list[Kind]:
    return [Kind(cards.adapters, distinct=cards.generations == DISTINCT) for cards in criteria.cards]


def _generations(criteria: Criteria, known: CardFacts) -> dict[int, int]:
    """The generation of each adapter; none if ``criteria`` do not depend on it."""
    if not any(cards.generations for cards in criteria.cards):
        return {}
    return {adapter: card.generation for adapter, card in known.cards.items()}


def _choices(criteria: Criteria, generations: dict[int, int]) -> Iterator[tuple[int | None, ...]]:
    """For each kind a generation that its adapters could have in common, None where they need not."""
    there = sorted(set(generations.values()) - {0})
    options = [there if cards.generations == SAME else [None] for cards in criteria.cards]
    return product(*options)


def _only(
    adapters: Sequence[Line],
    domains: Sequence[Line],
    chosen: tuple[int | None, ...],
    generations: dict[int, int],
) -> tuple[list[Line], list[Line]]:
    """The lines, with the adapters that the kinds can have if each has the generation ``chosen`` for it."""
    allowed = [
        -1 if one is None else sum(1 << adapter for adapter, its in generations.items() if its == one)
        for one in chosen
    ]
    rows = [
        line._replace(
            usable=tuple(bits if mask >> line.id & 1 else 0 for bits, mask in zip(line.usable, allowed))
        )
        for line in adapters
    ]
    columns = [
        line._replace(usable=tuple(bits & mask for bits, mask in zip(line.usable, allowed)))
        for line in domains
    ]
    return rows, columns

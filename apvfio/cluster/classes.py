# SPDX-License-Identifier: Apache-2.0
"""Classes of requests: the dimensions in which a cluster counts queues.

A class is a mode, a generation and a master key, the last two optional. A queue belongs to each class that
it satisfies, and a guest consumes from its own class and from each wider one. So a class is never short of
queues without the cluster noticing, and what a guest consumes does not depend on other guests.

Queues alone do not say whether rectangles fit: three adapters in each of two domains are six queues, but no
three guests can have two adapters in one domain each. So rows are classes, too: two adapters of one domain,
two domains of one adapter, and so on, up to the size of the guest's rectangle.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.criteria import EP11, MODES, same_key
from apvfio.plan.secure_execution import OLDEST_EP11

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.model.cards import CardFacts
    from apvfio.model.criteria import Criteria
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.request import Request

PREFIX = "ap-"
"""What the name of each utilization attribute of apvfio's begins with."""
_OLDEST = 4
"""The oldest generation that vfio_ap serves: whoever requests a CEX4 or newer requests any card."""
_KEY_DIGITS = 16
"""Digits of a master key's pattern in the name of a class: the shortest pattern has as many."""


class QueueClass(NamedTuple):
    """A class of requests."""

    mode: str
    min_generation: int = 0
    """The oldest card of the class, 0 for any."""
    mkvp: str = ""
    """The pattern of the master key, '' for any."""
    adapters: int = 1
    domains: int = 1
    """The size of what is counted: a queue, or a row of several adapters or of several domains."""

    @property
    def attribute(self) -> str:
        """The name of the utilization attribute that counts the queues of the class."""
        words = [
            self.mode,
            f"cex{self.min_generation}" if self.min_generation else "",
            self.mkvp[:_KEY_DIGITS],
            f"{self.adapters}x{self.domains}" if self.adapters * self.domains > 1 else "",
        ]
        return PREFIX + "-".join(filter(None, words))

    def count(self, queues: Iterable[Apqn]) -> int:
        """Return how many such rows ``queues``, all of the class, have at most, none with a queue twice."""
        if self.adapters > 1:
            return sum(n // self.adapters for n in Counter(queue.domain for queue in queues).values())
        return sum(n // self.domains for n in Counter(queue.adapter for queue in queues).values())

    def consumed(self, criteria: Criteria) -> int:
        """Return how many such rows a rectangle for ``criteria``, which is of the class, has."""
        return (criteria.adapters // self.adapters) * (criteria.domains // self.domains)

    def holds(self, queue: Apqn, known: CardFacts) -> bool:
        """Whether ``queue`` satisfies a request of the class."""
        card = known.cards.get(queue.adapter)
        if card is None or card.fault or card.mode != self.mode or card.generation < self.min_generation:
            return False
        keys = known.keys.get(queue)
        return not self.mkvp or bool(keys and any(same_key(self.mkvp, key) for key in keys.mkvps))


WHOLE_MODES = tuple(QueueClass(mode) for mode in MODES)
"""The widest classes, which each host publishes whatever its guests request."""


def classes_of(request: Request) -> list[QueueClass]:
    """Return the class of ``request`` and all wider ones, queues before rows; none if it names its queues."""
    criteria = request.criteria
    if criteria is None:
        return []
    oldest = criteria.min_generation
    if request.secure and criteria.mode == EP11:
        oldest = max(oldest, OLDEST_EP11)
    generations = [0, *range(_OLDEST + 1, oldest + 1)]
    keys = ["", criteria.mkvp] if criteria.mkvp else [""]
    rows = [(1, 1), *((n, 1) for n in range(2, criteria.adapters + 1))]
    rows += [(1, n) for n in range(2, criteria.domains + 1)]
    return [
        QueueClass(criteria.mode, oldest, key, *row) for row in rows for oldest in generations for key in keys
    ]


def named_attribute(queue: Apqn) -> str:
    """Return the name of the utilization attribute of a queue that a guest names: of it there is one."""
    return f"{PREFIX}{queue}".replace(".", "-")


def named_queues(matrix: Matrix) -> Iterator[tuple[str, Apqn]]:
    """The queues that a guest names, each with the name of its utilization attribute."""
    return ((named_attribute(queue), queue) for queue in matrix.queues())


def utilization(request: Request) -> dict[str, int]:
    """Return what a guest with ``request`` consumes, by the name of the utilization attribute."""
    criteria = request.criteria
    if criteria is None:
        return dict.fromkeys((name for name, _ in named_queues(request.matrix)), 1)
    return {one.attribute: one.consumed(criteria) for one in classes_of(request)}

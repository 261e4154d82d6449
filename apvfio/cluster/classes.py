# SPDX-License-Identifier: Apache-2.0
"""Classes of requests: the dimensions in which a cluster counts queues.

A class is a mode, a generation and master keys, the last two optional. A queue belongs to each class that
it satisfies, and a guest consumes from its own class and from each wider one. So a class is never short of
queues without the cluster noticing, and what a guest consumes does not depend on other guests.

Queues alone do not say whether rectangles fit: three adapters in each of two domains are six queues, but no
three guests can have two adapters in one domain each. So rows are classes, too: two adapters of one domain,
two domains of one adapter, and so on, up to the size of the guest's rectangle. A guest that requests adapters
of several kinds needs them in the same domains. So are joint rows: adapters of each kind in one domain.

No class says whether adapters must be of one generation, or of distinct ones: only whether a host could
start the guest depends on it.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.criteria import ANY_REGISTER, EP11, MODES, CardCriteria
from apvfio.plan.secure_execution import OLDEST_EP11

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from apvfio.model.cards import CardFacts
    from apvfio.model.master_keys import MasterKey
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.request import Request

    AtMost = Callable[[Collection[Apqn], str], int]

PREFIX = "ap-"
"""What the name of each utilization attribute of apvfio's begins with."""
_OLDEST = 4
"""The oldest generation that vfio_ap supports: a request for CEX4 or newer is a request for any card."""
_KEY_DIGITS = 16
"""Digits of a master key's pattern in the name of a class: the shortest pattern has as many."""


class QueueClass(NamedTuple):
    """A class of requests."""

    mode: str
    min_generation: int = 0
    """The oldest card of the class, 0 for any."""
    keys: tuple[MasterKey, ...] = ()
    """The master keys that each queue has."""
    adapters: int = 1
    domains: int = 1
    """The size of one unit: a queue, or a row of several adapters or of several domains."""

    @property
    def attribute(self) -> str:
        """The name of the utilization attribute that counts the queues of the class."""
        size = f"{self.adapters}x{self.domains}" if self.adapters * self.domains > 1 else ""
        return PREFIX + "-".join(filter(None, [self.words, size]))

    @property
    def words(self) -> str:
        """The mode, the generation and the keys in the names of attributes."""
        keys = [f"{key.register}-{key.mkvp[:_KEY_DIGITS]}".removeprefix("-") for key in self.keys]
        return "-".join([self.mode, *([f"cex{self.min_generation}"] if self.min_generation else []), *keys])

    def available(self, queues: Collection[Apqn], known: CardFacts, at_most: AtMost) -> int:
        """Return how many such rows ``queues`` have at most, none with a queue twice.

        ``at_most`` says how many queues of a mode guests can have of some.
        """
        members = [queue for queue in queues if self.holds(queue, known)]
        spare = at_most(members, self.mode) // (self.adapters * self.domains)
        if self.adapters > 1:
            by_line, size = Counter(queue.domain for queue in members), self.adapters
        else:
            by_line, size = Counter(queue.adapter for queue in members), self.domains
        return min(spare, sum(n // size for n in by_line.values()))

    def holds(self, queue: Apqn, known: CardFacts) -> bool:
        """Whether ``queue`` satisfies a request of the class."""
        card = known.cards.get(queue.adapter)
        if card is None or card.fault or card.mode != self.mode or card.generation < self.min_generation:
            return False
        seen = known.keys.get(queue)
        return not self.keys or bool(seen and CardCriteria(self.mode, keys=self.keys).meets(seen.keys))

    def contains(self, narrower: QueueClass) -> bool:
        """Whether each queue of the other class is one of this class, whatever is counted."""
        return (
            self.mode == narrower.mode
            and self.min_generation <= narrower.min_generation
            and CardCriteria(self.mode, keys=self.keys).meets(narrower.keys)
        )

    def wider(self) -> Iterator[QueueClass]:
        """The class itself and each wider one."""
        oldest = [0, *range(_OLDEST + 1, self.min_generation + 1)]
        options = [{None, key, key._replace(register=ANY_REGISTER)} for key in self.keys]
        for generation, *keys in product(oldest, *options):
            yield self._replace(min_generation=generation, keys=tuple(key for key in keys if key))


class JointClass(NamedTuple):
    """Rows of adapters of several kinds in one domain."""

    kinds: tuple[QueueClass, ...]
    """Each with its number of adapters."""

    @property
    def attribute(self) -> str:
        """The name of the utilization attribute that counts the rows."""
        return PREFIX + "-".join(f"{kind.adapters}x{kind.words}" for kind in self.kinds)

    def available(self, queues: Collection[Apqn], known: CardFacts, at_most: AtMost) -> int:
        """Return how many such rows ``queues`` have at most, as `QueueClass.available`."""
        spare, by_domain = [], []
        for kind in self.kinds:
            members = [queue for queue in queues if kind.holds(queue, known)]
            spare.append(at_most(members, kind.mode) // kind.adapters)
            counted = Counter(queue.domain for queue in members)
            by_domain.append({domain: n // kind.adapters for domain, n in counted.items()})
        domains = set(by_domain[0]).intersection(*by_domain)
        return min(*spare, sum(min(rows[domain] for rows in by_domain) for domain in domains))


WHOLE_MODES = tuple(QueueClass(mode) for mode in MODES)
"""The widest classes, which each host publishes whatever its guests request."""


def classes_of(request: Request) -> dict[QueueClass | JointClass, int]:
    """Return what a guest with ``request`` consumes of each class; nothing if it names its queues."""
    criteria = request.criteria
    if criteria is None:
        return {}
    kinds = [
        _class_of(cards, secure=request.secure)._replace(adapters=cards.adapters) for cards in criteria.cards
    ]
    found: dict[QueueClass | JointClass, int] = {}
    for wide in {wider._replace(adapters=1) for kind in kinds for wider in kind.wider()}:
        adapters = sum(kind.adapters for kind in kinds if wide.contains(kind))
        rows = [(1, 1), *((n, 1) for n in range(2, adapters + 1))]
        rows += [(1, n) for n in range(2, criteria.domains + 1)]
        for height, width in rows:
            consumed = (adapters // height) * (criteria.domains // width)
            found[wide._replace(adapters=height, domains=width)] = consumed
    for joint in _joint(kinds):
        by_mode = Counter[str]()
        for kind in kinds:
            by_mode[kind.mode] += kind.adapters
        found[joint] = criteria.domains * min(by_mode[one.mode] // one.adapters for one in joint.kinds)
    if len(kinds) > 1:
        found[JointClass(tuple(sorted(kinds)))] = criteria.domains
    return found


def _class_of(cards: CardCriteria, *, secure: bool) -> QueueClass:
    oldest = cards.min_generation
    if secure and cards.mode == EP11:
        oldest = max(oldest, OLDEST_EP11)
    return QueueClass(cards.mode, oldest, cards.keys, cards.adapters)


def _joint(kinds: Collection[QueueClass]) -> Iterator[JointClass]:
    """The rows of several modes, whatever the generations and keys, up to the size of the request."""
    by_mode = {
        mode: sum(kind.adapters for kind in kinds if kind.mode == mode)
        for mode in MODES
        if any(kind.mode == mode for kind in kinds)
    }
    for sizes in product(*(range(n + 1) for n in by_mode.values())):
        joint = tuple(QueueClass(mode, adapters=n) for mode, n in zip(by_mode, sizes) if n)
        if len(joint) > 1:
            yield JointClass(joint)


def named_attribute(queue: Apqn) -> str:
    """Return the name of the utilization attribute of a queue that a guest names: of it there is one."""
    return f"{PREFIX}{queue}".replace(".", "-")


def named_queues(matrix: Matrix) -> Iterator[tuple[str, Apqn]]:
    """The queues that a guest names, each with the name of its utilization attribute."""
    return ((named_attribute(queue), queue) for queue in matrix.queues())


def utilization(request: Request) -> dict[str, int]:
    """Return what a guest with ``request`` consumes, by the name of the utilization attribute."""
    if request.criteria is None:
        return dict.fromkeys((name for name, _ in named_queues(request.matrix)), 1)
    return {one.attribute: consumed for one, consumed in classes_of(request).items()}

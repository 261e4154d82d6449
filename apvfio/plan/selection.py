# SPDX-License-Identifier: Apache-2.0
"""From criteria to a matrix: the rectangle of queues for a guest that names none.

Of all rectangles whose every queue meets the criteria, the one with the fewest collateral queues;
then the one that changes the fewest mask bits; then the one on the cards that serve the fewest
queues to guests; then the one with the lowest ids. What a guest had before in this boot comes
before all that, if it still meets the criteria and is free.
`apvfio.plan.selection_rectangle` says how far that is exact.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import combinations

from apvfio.model.criteria import GENERATIONS, count
from apvfio.model.errors import ApvfioError, HostError, PolicyError
from apvfio.model.host import OVERRIDES, MaskBits
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.text import count_queues, some_queues
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.selection_candidates import candidates
from apvfio.plan.selection_generations import cheapest_of_generations, is_met
from apvfio.plan.selection_rectangle import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.model.cards import CardFacts
    from apvfio.model.criteria import Criteria
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request
    from apvfio.plan.selection_candidates import Candidates

_MOST_KEYED = 4
"""Kinds with keys, beyond which all of them or none must have been read just now."""
_REMEDY = "Request less in <any>, or see 'apvfio queues' for the host's queues."


def choose_queues(
    request: Request,
    host: Host,
    ledger: Ledger,
    policy: Policy,
    *,
    known: CardFacts,
    kept: frozenset[Apqn] = frozenset(),
    avoid: frozenset[Apqn] = frozenset(),
) -> Matrix:
    """Return the matrix for the request's criteria; HostError says what ruled out which queues.

    ``kept`` are queues that the host needs beyond those that the policy reserves, ``avoid`` those that the
    guest must not have, whoever has them. PolicyError if only queues that must stay with the host are in the
    way. If the request names a master key, queues whose key was read just now come before queues with a
    remembered key, for as many kinds of adapters as possible.
    """
    criteria = request.criteria
    if criteria and criteria.names_keys and any(not seen.fresh for seen in known.keys.values()):
        for proven in _proofs(criteria):
            with suppress(HostError, PolicyError):
                return _choose(
                    request, host, ledger, policy, known=known, kept=kept, avoid=avoid, proven=proven
                )
    return _choose(request, host, ledger, policy, known=known, kept=kept, avoid=avoid)


def _proofs(criteria: Criteria) -> Iterator[frozenset[int]]:
    """The kinds whose keys could be required to have been read just now, as many as possible first."""
    keyed = [kind for kind, cards in enumerate(criteria.cards) if cards.keys]
    for n in range(len(keyed), 0, -1) if len(keyed) <= _MOST_KEYED else [len(keyed)]:
        yield from map(frozenset, combinations(keyed, n))


def _choose(
    request: Request,
    host: Host,
    ledger: Ledger,
    policy: Policy,
    *,
    known: CardFacts,
    kept: frozenset[Apqn],
    avoid: frozenset[Apqn],
    proven: frozenset[int] = frozenset(),
) -> Matrix:
    criteria = request.criteria
    assert criteria
    ledger = ledger.with_ending(request.guest_uuid)
    mechanism = mechanism_of(host, ledger, policy)
    found = candidates(
        request, host, ledger, policy, known=known, mechanism=mechanism, kept=kept | avoid, proven=proven
    )
    for cards, queues, reasons in zip(criteria.cards, found.kinds, found.stories):
        if not queues:
            which = f"request for {cards.size}" if len(criteria.cards) > 1 else "whole request"
            raise _impossible(request, f"no queue satisfies the {which}; {'; '.join(reasons)}")
    may_stay = {q for q in host.drivers if policy.reserves(q) or q in kept}
    grid = _grid(found, host, ledger, may_stay, by_masks=mechanism != OVERRIDES)
    for matrix in _before(request, host, ledger):
        if _still_good(matrix, criteria, found, *grid, known=known):
            return matrix._replace(control_domains=criteria.control_of(matrix.domains))
    prefer = policy.prefer if mechanism != OVERRIDES else ""
    best = cheapest_of_generations(*grid, criteria, known, prefer)
    if best is None:
        rows, columns = grid
        if cheapest_of_generations(_opened(rows), _opened(columns), criteria, known):
            raise PolicyError(
                "all queues that satisfy it could be freed only with queues that must stay with the host: "
                f"{some_queues(may_stay)}.",
                guest=request.guest,
                queues=may_stay,
                remedy="Request other queues, or change /etc/apvfio/apvfio.toml.",
            )
        left = f"{count_queues(len(found.queues))} left ({some_queues(found.queues)})"
        size, story = _size(criteria), _story(criteria, found)
        raise _impossible(request, f"no rectangle of {size} is among the {left}; {story}")
    domains = IdSet(best.domains)
    return Matrix(IdSet(best.adapters), domains, criteria.control_of(domains))


def require_met(
    request: Request, matrix: Matrix, host: Host, ledger: Ledger, policy: Policy, *, known: CardFacts
) -> None:
    """HostError unless every queue of ``matrix`` satisfies the request's criteria and is free or its own."""
    ledger = ledger.with_ending(request.guest_uuid)
    mechanism = mechanism_of(host, ledger, policy)
    found = candidates(request, host, ledger, policy, known=known, mechanism=mechanism, kept=())
    assert request.criteria
    if not is_met(matrix, request.criteria, found.kinds, known):
        story = _story(request.criteria, found)
        which = some_queues(list(matrix.queues()))
        raise _impossible(request, f"{which} do not satisfy its criteria; {story}")


def _before(request: Request, host: Host, ledger: Ledger) -> list[Matrix]:
    """Return what the guest might get again: what its device has been assigned, or its last queues."""
    to_remove = ledger.mdevs_to_remove()
    found = [matrix for uuid, matrix in host.mdevs.items() if uuid == request.mdev and uuid not in to_remove]
    last = ledger.last_given.get(request.guest_uuid)
    return found + ([last] if last else [])


def _still_good(
    matrix: Matrix,
    criteria: Criteria,
    found: Candidates,
    adapters: list[Line],
    domains: list[Line],
    *,
    known: CardFacts,
) -> bool:
    rows = [line for line in adapters if line.id in matrix.adapters]
    columns = [line for line in domains if line.id in matrix.domains]
    is_open = not (any(line.closed for line in rows) and any(line.closed for line in columns))
    return is_open and is_met(matrix, criteria, found.kinds, known)


def _grid(
    found: Candidates, host: Host, ledger: Ledger, may_stay: set[Apqn], *, by_masks: bool
) -> tuple[list[Line], list[Line]]:
    """The adapters and the domains. Where queues move one by one, none costs the host anything more."""
    hosts = {queue for queue in host.drivers if by_masks and host.masks_give_host(queue)}
    closed = hosts & may_stay
    loads = Counter(queue.adapter for lease in ledger.active_leases() for queue in lease.matrix.queues())
    masks = host.masks if by_masks else MaskBits()
    rows = _lines(masks.apmask, list(map(_by_line, found.kinds)), _by_line(hosts), _by_line(closed))
    turned = [list(_turned(queues)) for queues in (*found.kinds, hosts, closed)]
    *usable, its_hosts, its_closed = map(_by_line, turned)
    columns = _lines(masks.aqmask, usable, its_hosts, its_closed)
    return [line._replace(load=loads[line.id]) for line in rows], columns


def _lines(
    mask: IdSet, usable: list[dict[int, int]], hosts: dict[int, int], closed: dict[int, int]
) -> list[Line]:
    return [
        Line(i, tuple([one.get(i, 0) for one in usable]), hosts.get(i, 0), i in mask, i in closed)
        for i in sorted({i for one in usable for i in one})
    ]


def _by_line(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """For each first id the second ones, as bits."""
    table: dict[int, int] = {}
    for line, place in pairs:
        table[line] = table.get(line, 0) | 1 << place
    return table


def _turned(queues: Iterable[Apqn]) -> Iterator[tuple[int, int]]:
    return ((queue.domain, queue.adapter) for queue in queues)


def _opened(lines: Iterable[Line]) -> list[Line]:
    return [line._replace(closed=False) for line in lines]


def _size(criteria: Criteria) -> str:
    sizes = [
        f"{cards.size if len(criteria.cards) > 1 else count(cards.adapters, 'adapter')}"
        f"{' ' if cards.generations else ''}{GENERATIONS.get(cards.generations, '')}"
        for cards in criteria.cards
    ]
    adapters = sizes[0] if len(sizes) == 1 else f"({' + '.join(sizes)})"
    return f"{adapters} x {count(criteria.domains, 'domain')}"


def _story(criteria: Criteria, found: Candidates) -> str:
    stories = ["; ".join(story) for story in found.stories]
    if len(stories) == 1:
        return stories[0]
    return "; ".join(f"for {cards.size}: {story}" for cards, story in zip(criteria.cards, stories))


def _impossible(request: Request, what: str) -> ApvfioError:
    return HostError(f"{what}.", guest=request.guest, remedy=_REMEDY)

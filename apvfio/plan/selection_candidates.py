# SPDX-License-Identifier: Apache-2.0
"""Which queues of a host meet criteria, and what rules out the others."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.model.criteria import key_words
from apvfio.model.errors import printable
from apvfio.model.host import HOST_DRIVER, OVERRIDES, UNBOUND, VFIO_DRIVER
from apvfio.model.text import some_queues
from apvfio.plan.secure_execution import unusable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from apvfio.model.cards import Card, CardFacts
    from apvfio.model.criteria import CardCriteria
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger
    from apvfio.model.matrix import Apqn, Matrix
    from apvfio.model.policy import Policy
    from apvfio.model.request import Request

    _Condition = tuple[str, Callable[[Apqn], str]]
    """A condition in words, and what returns the fault of a queue, '' if it satisfies it."""

_SHOWN = 4


class Candidates(NamedTuple):
    """The queues that satisfy every condition, and the story of how they came to be so few."""

    kinds: tuple[frozenset[Apqn], ...]
    """For each kind of adapters those that would do for it."""
    stories: tuple[tuple[str, ...], ...]
    """For each kind, and each condition that ruled something out, what it left and why, in words."""

    @property
    def queues(self) -> frozenset[Apqn]:
        """Those that would do for any kind."""
        return frozenset().union(*self.kinds)


def candidates(
    request: Request,
    host: Host,
    ledger: Ledger,
    policy: Policy,
    *,
    known: CardFacts,
    mechanism: str,
    kept: Collection[Apqn],
    proven: Collection[int] = (),
) -> Candidates:
    """The queues that ``request`` might get; ``kept`` are those the host needs though none reserved them.

    Of the kinds ``proven``, only keys count that were read just now.
    """
    criteria = request.criteria
    assert criteria
    conditions: list[_Condition] = [
        ("neither reserved nor drained", lambda queue: _kept(queue, policy, kept)),
        ("bound to cex4queue or vfio_ap", lambda queue: _bound_elsewhere(queue, host, mechanism)),
        ("held by no other guest or device", _holders(request, host, ledger)),
    ]
    if criteria.control_usage and host.control_domains is not None:
        control = host.control_domains
        conditions.append(
            (
                "of domains that the host controls",
                lambda queue: "" if queue.domain in control else "domain not controlled",
            )
        )
    read = {queue: seen for queue, seen in known.keys.items() if seen.fresh} if proven else {}
    found = [
        _of_kind(
            cards,
            conditions,
            known._replace(keys=read) if kind in proven else known,
            host,
            secure=request.secure,
        )
        for kind, cards in enumerate(criteria.cards)
    ]
    return Candidates(tuple(queues for queues, _ in found), tuple(story for _, story in found))


def _of_kind(
    cards: CardCriteria, conditions: list[_Condition], known: CardFacts, host: Host, *, secure: bool
) -> tuple[frozenset[Apqn], tuple[str, ...]]:
    adapters, story = _cards(cards, known, host, secure=secure)
    left = [queue for queue in sorted(host.drivers) if queue.adapter in adapters]
    if cards.keys:
        condition = f"with {' and '.join(map(key_words, cards.keys))}"
        conditions = [*conditions, (condition, lambda queue: _key_differs(queue, cards, known))]
    for condition, fault in conditions:
        if not left:
            break
        faults = {queue: fault(queue) for queue in left}
        if any(faults.values()):
            left = [queue for queue in left if not faults[queue]]
            story.append(f"queues {condition}: {some_queues(left, _SHOWN) or 'none'} ({_grouped(faults)})")
    return frozenset(left), tuple(story)


def _cards(wanted: CardCriteria, known: CardFacts, host: Host, *, secure: bool) -> tuple[set[int], list[str]]:
    """Return the adapters whose card meets the criteria, and what each criterion has left."""
    cards = {adapter: card for adapter, card in known.cards.items() if adapter in host.adapters}
    left = {adapter: card for adapter, card in cards.items() if card.mode == wanted.mode}
    others = ", ".join(f"{a:02x} is {cards[a].mode or 'of unknown mode'}" for a in cards)
    there = _named(left) or f"none ({others or 'there are no cards'})"
    story = [f"adapters in mode {wanted.mode}: {there}"]
    oldest = wanted.min_generation
    conditions: list[tuple[str, Callable[[Card], str]]] = [
        ("in working order", lambda card: card.fault),
        (
            f"of generation {oldest} or later",
            lambda card: _generation(card) if card.generation < oldest else "",
        ),
        *([("for Secure Execution", unusable)] if secure else []),
    ]
    if wanted.generations:
        conditions.append(("of known generation", lambda card: "" if card.generation else _generation(card)))
    for condition, fault in conditions:
        out = {adapter: fault(card) for adapter, card in left.items() if fault(card)}
        if out:
            left = {adapter: card for adapter, card in left.items() if adapter not in out}
            why = ", ".join(f"{adapter:02x} is {fault}" for adapter, fault in sorted(out.items())[:_SHOWN])
            more = f", and {len(out) - _SHOWN} more" if len(out) > _SHOWN else ""
            story.append(f"adapters {condition}: {_named(left) or 'none'} ({why}{more})")
    return set(left), story


def _named(cards: Collection[int]) -> str:
    return ", ".join(f"{adapter:02x}" for adapter in sorted(cards))


def _generation(card: Card) -> str:
    return f"CEX{card.generation}" if card.generation else "of unknown generation"


def _kept(queue: Apqn, policy: Policy, kept: Collection[Apqn]) -> str:
    if policy.reserves(queue):
        return "reserved"
    if policy.drained.holds(queue):
        return "drained"
    return "needed by the host" if queue in kept else ""


def _bound_elsewhere(queue: Apqn, host: Host, mechanism: str) -> str:
    override = host.overrides.get(queue, VFIO_DRIVER)
    if mechanism == OVERRIDES and override != VFIO_DRIVER:
        return f"kept for {printable(override)!r} by driver_override"
    driver = host.drivers[queue]
    if driver in (HOST_DRIVER, VFIO_DRIVER):
        return ""
    return "bound to no driver" if driver == UNBOUND else f"bound to {printable(driver)}"


def _holders(request: Request, host: Host, ledger: Ledger) -> Callable[[Apqn], str]:
    to_remove = ledger.mdevs_to_remove()
    holders: list[tuple[str, Matrix]] = [
        (f"held by guest {printable(lease.guest)}", lease.matrix) for lease in ledger.leases_and_before()
    ]
    holders += [
        (f"claimed for the mediated device {claim.mdev}", claim.matrix) for claim in ledger.claims.values()
    ]
    holders += [
        (f"held by the mediated device {uuid}", matrix)
        for uuid, matrix in host.mdevs.items()
        if uuid != request.mdev and uuid not in to_remove
    ]
    return lambda queue: next((who for who, matrix in holders if matrix.holds(queue)), "")


def _key_differs(queue: Apqn, wanted: CardCriteria, known: CardFacts) -> str:
    seen = known.keys.get(queue)
    if seen is None:
        return "key unknown, as it was never read while the host had the queue"
    if wanted.meets(seen.keys):
        return ""
    when = "" if seen.fresh else f" when read at {seen.when}"
    if not seen.keys:
        return f"no valid key{when}"
    return f"{' and '.join(map(str, seen.keys))}{when}"


def _grouped(faults: dict[Apqn, str]) -> str:
    groups: dict[str, list[Apqn]] = {}
    for queue, fault in faults.items():
        if fault:
            groups.setdefault(fault, []).append(queue)
    shown = [f"{fault}: {some_queues(queues, _SHOWN)}" for fault, queues in list(groups.items())[:_SHOWN]]
    return "; ".join(shown) + ("; and others" if len(groups) > _SHOWN else "")

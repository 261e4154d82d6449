# SPDX-License-Identifier: Apache-2.0
"""The classes in which a cluster counts: guests that run together consume no more than their host offers."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.cluster.capacity import BareState, capacity
from apvfio.cluster.classes import utilization
from apvfio.model.cards import Card, CardFacts
from apvfio.model.criteria import CardCriteria, Criteria
from apvfio.model.host import Usage
from apvfio.model.ids import IdSet
from apvfio.model.master_keys import MasterKey, SeenKeys
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Policy
from apvfio.model.request import Request
from hosts import NO_LEASES, a_host, guest, mdev

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ADAPTERS, DOMAINS = 5, 3
AES, OTHER_AES, APKA = (MasterKey("aes", "a" * 16), MasterKey("aes", "b" * 16), MasterKey("apka", "a" * 16))


def asking(wanted: Criteria, n: int = 1) -> Request:
    return Request(f"g{n}", guest(n), mdev(n), Matrix(), criteria=wanted)


def a_state(known: CardFacts, queues: Collection[Apqn]) -> BareState:
    host = a_host(IdSet(range(ADAPTERS)), IdSet(range(DOMAINS)))
    drivers = {queue: driver for queue, driver in host.drivers.items() if queue in queues}
    return BareState(host._replace(drivers=drivers), NO_LEASES, Policy(), Usage(), known)


EVERY_QUEUE = list(itertools.starmap(Apqn, itertools.product(range(ADAPTERS), range(DOMAINS))))
BOTH = Criteria((CardCriteria("cca", 2), CardCriteria("ep11", 1)))


def test_kinds_consume_from_the_classes_of_each_and_from_joint_ones() -> None:
    assert utilization(asking(BOTH._replace(domains=2))) == {
        "ap-cca": 4,
        "ap-cca-2x1": 2,
        "ap-cca-1x2": 2,
        "ap-ep11": 2,
        "ap-ep11-1x2": 1,
        "ap-1xcca-1xep11": 2,
        "ap-2xcca-1xep11": 2,
    }


def test_kinds_of_one_mode_add_up_in_wider_classes() -> None:
    two_keys = Criteria((CardCriteria("cca", keys=(AES,)), CardCriteria("cca", keys=(OTHER_AES,))))
    assert utilization(asking(two_keys)) == {
        "ap-cca": 2,
        "ap-cca-2x1": 1,
        f"ap-cca-{'a' * 16}": 1,
        f"ap-cca-aes-{'a' * 16}": 1,
        f"ap-cca-{'b' * 16}": 1,
        f"ap-cca-aes-{'b' * 16}": 1,
        f"ap-1xcca-aes-{'a' * 16}-1xcca-aes-{'b' * 16}": 1,
    }


def test_modes_that_share_no_domain_have_no_joint_row() -> None:
    cards = {0: Card("cca", 8), 1: Card("cca", 8), 2: Card("ep11", 8)}
    apart = [Apqn(0, 0), Apqn(1, 0), Apqn(2, 1)]
    counts = capacity(a_state(CardFacts(cards), apart), [asking(BOTH)])
    assert (counts["ap-cca-2x1"], counts["ap-ep11"], counts["ap-2xcca-1xep11"]) == (1, 1, 0)
    together = capacity(a_state(CardFacts(cards), [*apart, Apqn(2, 0)]), [asking(BOTH)])
    assert (together["ap-1xcca-1xep11"], together["ap-2xcca-1xep11"]) == (1, 1)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[CardFacts, list[Apqn]]:
    modes = st.sampled_from(["cca", "cca", "ep11"])
    cards = {a: Card(draw(modes), draw(st.sampled_from([7, 8]))) for a in range(ADAPTERS)}
    gone = draw(st.sets(st.sampled_from(EVERY_QUEUE), max_size=3))
    keys = {
        queue: SeenKeys(tuple(draw(st.sampled_from([[AES], [OTHER_AES], [AES, APKA], []]))), "", fresh=True)
        for queue in EVERY_QUEUE
        if cards[queue.adapter].mode == "cca"
    }
    return CardFacts(cards, keys), [queue for queue in EVERY_QUEUE if queue not in gone]


kinds = st.one_of(
    st.builds(
        CardCriteria,
        st.just("cca"),
        st.integers(1, 2),
        st.sampled_from([0, 8]),
        st.just(""),
        st.sampled_from([(), (), (AES,), (MasterKey("", AES.mkvp),), (APKA,), (AES, APKA)]),
    ),
    st.builds(CardCriteria, st.just("ep11"), st.integers(1, 2), st.sampled_from([0, 8])),
)
criteria = st.builds(
    lambda cards, domains: Criteria(tuple(cards), domains),
    st.lists(kinds, min_size=1, max_size=2),
    st.sampled_from([1, 1, 2]),
)


@settings(max_examples=300, deadline=None)
@given(hosts(), st.lists(criteria, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_guests_that_run_together_consume_no_more_than_there_is(
    host: tuple[CardFacts, list[Apqn]], wanted: list[Criteria], chance: object
) -> None:
    known, there = host
    free, running = set(there), []
    for n, one in enumerate(wanted):
        rectangles = list(placements(one, free, known))
        if rectangles:
            free -= chance.choice(rectangles)  # type: ignore[attr-defined]
            running.append(asking(one, n))
    offered = capacity(a_state(known, there), [asking(one, n) for n, one in enumerate(wanted)])
    consumed = Counter[str]()
    for request in running:
        consumed.update(utilization(request))
    assert not {name: (n, offered[name]) for name, n in consumed.items() if n > offered[name]}


def placements(wanted: Criteria, free: set[Apqn], known: CardFacts) -> Iterator[set[Apqn]]:
    """All rectangles that satisfy the request, among the queues that are free."""
    places = [cards for cards in wanted.cards for _ in range(cards.adapters)]
    for adapters in itertools.permutations(range(ADAPTERS), len(places)):
        if all(fits(cards, a, known) for cards, a in zip(places, adapters)):
            for domains in itertools.combinations(range(DOMAINS), wanted.domains):
                queues = {Apqn(a, d) for a in adapters for d in domains}
                keyed = all(
                    has(cards, Apqn(a, d), known) for cards, a in zip(places, adapters) for d in domains
                )
                if keyed and queues <= free:
                    yield queues


def fits(cards: CardCriteria, adapter: int, known: CardFacts) -> bool:
    card = known.cards[adapter]
    return card.mode == cards.mode and card.generation >= cards.min_generation


def has(cards: CardCriteria, queue: Apqn, known: CardFacts) -> bool:
    seen = known.keys[queue].keys if queue in known.keys else ()
    return all(
        any(key.mkvp == one.mkvp and key.register in ("", one.register) for one in seen) for key in cards.keys
    )

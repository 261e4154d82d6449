# SPDX-License-Identifier: Apache-2.0
"""Choosing queues for several kinds of adapters, which share domains, against brute force."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apvfio.model.cards import Card, CardFacts
from apvfio.model.criteria import CardCriteria, Criteria
from apvfio.model.errors import ApvfioError, HostError
from apvfio.model.host import Host, MaskBits
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, Ledger
from apvfio.model.master_keys import MasterKey, SeenKeys
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Policy
from apvfio.model.request import Request
from apvfio.plan.options import free_options
from apvfio.plan.selection import choose_queues, require_met
from apvfio.plan.selection_assignment import Assignment, Kind
from apvfio.plan.start_plan import make_plan
from hosts import BOOT, NO_LEASES, a_host, a_lease, a_matrix, guest, mdev

NO_POLICY = Policy()
SEEN = "1970-01-01T00:00:00.000+00:00"
AES, OTHER_AES = MasterKey("aes", "a1" * 8), MasterKey("aes", "b2" * 8)
APKA = MasterKey("apka", "a1" * 8)
WK = MasterKey("wk", "c3" * 32)


def keyed(*keys: MasterKey) -> SeenKeys:
    return SeenKeys(keys, SEEN, fresh=True)


def asking(wanted: Criteria) -> Request:
    return Request("g1", guest(1), mdev(1), Matrix(), criteria=wanted)


def chosen(
    wanted: Criteria, host: Host, known: CardFacts, ledger: Ledger = NO_LEASES, policy: Policy = NO_POLICY
) -> Matrix:
    return choose_queues(asking(wanted), host, ledger, policy, known=known)


CCA_AND_EP11 = Criteria((CardCriteria("cca", 2), CardCriteria("ep11", 1)))
HOST = a_host(IdSet([0, 1, 2, 3]), IdSet([1, 2]))
CARDS = {0: Card("cca", 8), 1: Card("cca", 7), 2: Card("ep11", 8), 3: Card("ep11", 7)}
KNOWN = CardFacts(CARDS)


def test_adapters_of_two_modes_share_the_domains() -> None:
    assert chosen(CCA_AND_EP11, HOST, KNOWN) == a_matrix("0-2", "1")
    missing = HOST._replace(
        drivers={q: d for q, d in HOST.drivers.items() if q not in (Apqn(1, 1), Apqn(2, 2))}
    )
    # In domain 1 there is one cca queue, in domain 2 card 3 alone in mode ep11.
    assert chosen(CCA_AND_EP11, missing, KNOWN) == a_matrix("0-1,3", "2")


def test_a_key_in_its_register() -> None:
    keys = {
        Apqn(0, 1): keyed(OTHER_AES, APKA),
        Apqn(1, 1): keyed(AES),
        Apqn(0, 2): keyed(AES),
        Apqn(1, 2): keyed(AES, APKA),
    }
    known = KNOWN._replace(keys=keys)

    def got(*wanted: MasterKey, adapters: int = 1) -> Matrix:
        return chosen(Criteria((CardCriteria("cca", adapters, keys=wanted),)), HOST, known)

    assert got(AES) == a_matrix("0", "2")
    assert got(APKA) == a_matrix("0", "1")
    assert got(AES, APKA) == a_matrix("1", "2")
    assert got(MasterKey("", AES.mkvp)) == a_matrix("0", "1")
    assert got(AES, adapters=2) == a_matrix("0-1", "2")
    with pytest.raises(
        HostError, match="aes 0xa1a1a1a1a1a1a1a1 and apka 0xa1a1a1a1a1a1a1a1: 01\\.0002"
    ) as caught:
        got(OTHER_AES, APKA, adapters=2)
    assert "AES master key 0xb2b2b2b2b2b2b2b2 and APKA master key" in str(caught.value)


def test_keys_that_were_read_come_first_for_as_many_kinds_as_possible() -> None:
    wanted = Criteria((CardCriteria("cca", keys=(AES,)), CardCriteria("ep11", keys=(WK,))))
    old = {Apqn(0, d): SeenKeys((AES,), SEEN) for d in (1, 2)}
    old |= {Apqn(2, d): SeenKeys((WK,), SEEN) for d in (1, 2)}
    assert chosen(wanted, HOST, KNOWN._replace(keys=old)) == a_matrix("0,2", "1")
    one_read = {**old, Apqn(1, 2): keyed(AES)}
    assert chosen(wanted, HOST, KNOWN._replace(keys=one_read)) == a_matrix("1-2", "2")
    other_read = {**old, Apqn(3, 2): keyed(WK)}
    assert chosen(wanted, HOST, KNOWN._replace(keys=other_read)) == a_matrix("0,3", "2")
    both_read = {**one_read, Apqn(3, 2): keyed(WK)}
    assert chosen(wanted, HOST, KNOWN._replace(keys=both_read)) == a_matrix("1,3", "2")


def test_two_kinds_of_one_mode_are_different_adapters() -> None:
    keys = {Apqn(0, d): keyed(AES) for d in (1, 2)} | {Apqn(1, d): keyed(AES, APKA) for d in (1, 2)}
    one_each = Criteria((CardCriteria("cca", keys=(AES,)), CardCriteria("cca", keys=(APKA,))))
    # Adapter 1 would do for either kind, adapter 0 for the first alone.
    assert chosen(one_each, HOST, KNOWN._replace(keys=keys)) == a_matrix("0-1", "1")
    both = Criteria((CardCriteria("cca", keys=(APKA,)), CardCriteria("cca", keys=(APKA,))))
    with pytest.raises(HostError, match=r"no rectangle of \(1 cca adapter \+ 1 cca adapter\) x 1 domain"):
        chosen(both, HOST, KNOWN._replace(keys=keys))


def test_generations() -> None:
    cards = {0: Card("ep11", 8), 1: Card("ep11", 8), 2: Card("ep11", 7), 3: Card("ep11", 0)}

    def got(adapters: int, generations: str) -> Matrix:
        wanted = Criteria((CardCriteria("ep11", adapters, generations=generations),))
        return chosen(wanted, HOST, CardFacts(cards))

    assert got(2, "same") == a_matrix("0-1", "1")
    assert got(2, "distinct") == a_matrix("0,2", "1")
    assert got(3, "") == a_matrix("0-2", "1")
    for generations in ("same", "distinct"):
        with pytest.raises(
            HostError, match=r"of known generation: 00, 01, 02 \(03 is of unknown generation\)"
        ):
            got(3, generations)
    few = {0: Card("ep11", 8), 1: Card("ep11", 8), 2: Card("cca", 7)}
    with pytest.raises(HostError, match="no rectangle of 2 adapters of distinct generations x 1 domain"):
        chosen(Criteria((CardCriteria("ep11", 2, generations="distinct"),)), HOST, CardFacts(few))
    kinds = (CardCriteria("ep11", 2, generations="distinct"), CardCriteria("cca"))
    with pytest.raises(HostError, match=r"\(2 ep11 adapters of distinct generations \+ 1 cca adapter\) x 1"):
        chosen(Criteria(kinds), HOST, CardFacts(few))


def test_control_domains_are_those_it_gets() -> None:
    wanted = CCA_AND_EP11._replace(control_usage=True)
    assert chosen(wanted, HOST, KNOWN) == Matrix(IdSet([0, 1, 2]), IdSet([1]), IdSet([1]))
    host = HOST._replace(control_domains=IdSet([2, 7]))
    assert chosen(wanted, host, KNOWN) == Matrix(IdSet([0, 1, 2]), IdSet([2]), IdSet([2]))
    with pytest.raises(HostError, match=r"that the host controls: none \(domain not controlled: 00\.0001,"):
        chosen(wanted, HOST._replace(control_domains=IdSet([7])), KNOWN)


def test_what_it_had_it_gets_again_if_its_adapters_serve_their_kinds() -> None:
    before = NO_LEASES.with_last_given(guest(1), a_matrix("0-1,3", "2"))
    assert chosen(CCA_AND_EP11, HOST, KNOWN, before) == a_matrix("0-1,3", "2")
    for other in (a_matrix("0,2-3", "2"), a_matrix("0-1,3", "1-2"), a_matrix("0-1", "2")):
        last = NO_LEASES.with_last_given(guest(1), other)
        assert chosen(CCA_AND_EP11, HOST, KNOWN, last) == a_matrix("0-2", "1")


def test_whether_given_queues_satisfy_the_request() -> None:
    require_met(asking(CCA_AND_EP11), a_matrix("0-1,3", "2"), HOST, NO_LEASES, NO_POLICY, known=KNOWN)
    with pytest.raises(HostError, match="do not satisfy its criteria; for 2 cca adapters: adapters in"):
        require_met(asking(CCA_AND_EP11), a_matrix("0,2-3", "2"), HOST, NO_LEASES, NO_POLICY, known=KNOWN)


def test_the_impossible_names_the_kind() -> None:
    with pytest.raises(HostError, match="no queue satisfies the request for 1 accel adapter; adapters in"):
        chosen(Criteria((CardCriteria("cca"), CardCriteria("accel"))), HOST, KNOWN)
    apart = HOST._replace(
        drivers={q: d for q, d in HOST.drivers.items() if (q.adapter < 2) == (q.domain == 1)}
    )
    with pytest.raises(HostError) as caught:
        chosen(CCA_AND_EP11, apart, KNOWN)
    assert str(caught.value).startswith(
        "guest g1: no rectangle of (2 cca adapters + 1 ep11 adapter) x 1 domain is among the 4 queues left "
        "(00.0001, 01.0001, 02.0002, 03.0002); for 2 cca adapters: adapters in mode cca: 00, 01; "
        "for 1 ep11 adapter: adapters in mode ep11: 02, 03."
    )


def test_a_full_host_is_searched_in_time() -> None:
    """16 adapters x 85 domains, every adapter with other queues; half of them fit both kinds."""
    full = a_host(IdSet(range(16)), IdSet(range(85)))
    gone = {Apqn(a, 3 * a + k) for a in range(16) for k in range(3)}
    host = full._replace(drivers={q: d for q, d in full.drivers.items() if q not in gone})
    known = CardFacts({a: Card("cca" if a < 10 else "ep11", 7 + a % 2) for a in range(16)})
    wanted = Criteria((CardCriteria("cca", 3), CardCriteria("cca", 3, 8), CardCriteria("ep11", 2)), 40)
    started = time.monotonic()
    found = chosen(wanted, host, known)
    assert time.monotonic() - started < 30
    assert (len(found.adapters), len(found.domains)) == (8, 40)


ADAPTERS, DOMAINS = 5, 4
ids = st.sets(st.integers(0, ADAPTERS - 1), min_size=2).map(IdSet)
some = st.sets(st.integers(0, ADAPTERS - 1)).map(IdSet)
queues = st.sets(st.builds(Apqn, st.integers(0, ADAPTERS - 1), st.integers(0, DOMAINS - 1)), max_size=4)
Situation = tuple[Host, Ledger, Policy, CardFacts]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    domains = IdSet(draw(st.sets(st.integers(0, DOMAINS - 1), min_size=1)))
    host = a_host(draw(ids), domains, apmask=ALL_IDS - draw(some), aqmask=ALL_IDS - draw(some))
    missing = draw(queues)
    drivers = {queue: driver for queue, driver in host.drivers.items() if queue not in missing}
    cards = {
        a: Card(draw(st.sampled_from(["ep11", "cca", "cca"])), draw(st.sampled_from([7, 8, 8, 0])))
        for a in range(ADAPTERS)
    }
    keys = {
        queue: keyed(*([WK] if cards[queue.adapter].mode == "ep11" else draw(st.sampled_from(KEYS))))
        for queue in sorted(drivers)
        if draw(st.integers(0, 4))
    }
    ledger = Ledger(BOOT, {}, MaskBits())
    if draw(st.booleans()):
        held = Matrix(IdSet([draw(st.integers(0, ADAPTERS - 1))]), IdSet([draw(st.integers(0, DOMAINS - 1))]))
        ledger = ledger.with_lease(a_lease("0", "0", 2)._replace(matrix=held))
    policy = Policy(frozenset(draw(queues)), prefer=draw(st.sampled_from(["", "", BY_ADAPTERS, BY_DOMAINS])))
    return host._replace(drivers=drivers), ledger, policy, CardFacts(cards, keys)


KEYS: list[list[MasterKey]] = [[AES], [AES, APKA], [OTHER_AES], []]


@st.composite
def kinds(draw: st.DrawFn) -> CardCriteria:
    mode = draw(st.sampled_from(["cca", "cca", "ep11"]))
    wanted = {"cca": [(), (), (), (AES,), (APKA,), (AES, APKA)], "ep11": [(), (WK,)]}[mode]
    return CardCriteria(
        mode,
        draw(st.sampled_from([1, 1, 2])),
        draw(st.sampled_from([0, 0, 8])),
        draw(st.sampled_from(["", "", "", "same", "distinct"])),
        draw(st.sampled_from(wanted)),
    )


requests = st.builds(
    lambda cards, domains: Criteria(tuple(cards), domains),
    st.lists(kinds(), min_size=1, max_size=3),
    st.sampled_from([1, 1, 2]),
)


@settings(max_examples=600, deadline=None)
@given(situations(), requests)
def test_no_rectangle_costs_the_host_less(situation: Situation, wanted: Criteria) -> None:
    """Against all rectangles, priced by the planner's own ways; and the planner can carry the choice out."""
    host, ledger, policy, known = situation
    all_of_them = {
        matrix: price
        for adapters in itertools.combinations(range(ADAPTERS), wanted.adapters)
        for domains in itertools.combinations(range(DOMAINS), wanted.domains)
        if serves(wanted, adapters, domains, known)
        and (price := priced(matrix := Matrix(IdSet(adapters), IdSet(domains)), situation))
    }
    try:
        found = choose_queues(asking(wanted), host, ledger, policy, known=known)
    except ApvfioError:
        assert not all_of_them
        return
    assert found == min(all_of_them, key=lambda matrix: all_of_them[matrix])
    plan = make_plan(asking(wanted)._replace(matrix=found), host, ledger, policy)
    assert len(plan.chosen.collateral) == all_of_them[found][1]
    require_met(asking(wanted), found, host, ledger, policy, known=known)


def serves(wanted: Criteria, adapters: tuple[int, ...], domains: tuple[int, ...], known: CardFacts) -> bool:
    """Whether any way to deal the adapters to the kinds satisfies every kind."""
    places = [kind for kind, cards in enumerate(wanted.cards) for _ in range(cards.adapters)]
    for order in itertools.permutations(adapters):
        dealt = [[a for a, place in zip(order, places) if place == k] for k in range(len(wanted.cards))]
        if all(suits(cards, mine, domains, known) for cards, mine in zip(wanted.cards, dealt)):
            return True
    return False


def suits(cards: CardCriteria, adapters: list[int], domains: tuple[int, ...], known: CardFacts) -> bool:
    generations = [known.cards[adapter].generation for adapter in adapters]
    if cards.generations and 0 in generations:
        return False
    if cards.generations == "same" and len(set(generations)) > 1:
        return False
    if cards.generations == "distinct" and len(set(generations)) < len(generations):
        return False
    if any(known.cards[a].mode != cards.mode for a in adapters) or min(generations) < cards.min_generation:
        return False
    seen = [known.keys.get(Apqn(a, d)) for a in adapters for d in domains]
    return not cards.keys or all(one is not None and set(cards.keys) <= set(one.keys) for one in seen)


def priced(matrix: Matrix, situation: Situation) -> tuple[bool, int, int, int, list[int], list[int]] | None:
    """What a rectangle costs, None if its queues are not there or cannot be freed."""
    host, ledger, policy, _ = situation
    held = [lease.matrix for lease in ledger.active_leases()]
    loads = [queue.adapter for other in held for queue in other.queues()]
    for queue in matrix.queues():
        taken = policy.reserves(queue) or any(other.holds(queue) for other in held)
        if queue not in host.drivers or taken:
            return None
    ways = [way for way in free_options(matrix, [], host, MaskBits(), policy) if not way.reserved]
    if not ways:
        return None
    way = min(ways, key=lambda way: (bool(policy.prefer) and way.name != policy.prefer, way.cost[:2]))
    load = sum(loads.count(adapter) for adapter in matrix.adapters)
    against = bool(policy.prefer) and way.name != policy.prefer
    return (against, *way.cost[:2], load, list(matrix.adapters), list(matrix.domains))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.builds(Kind, st.integers(1, 3), st.booleans()), min_size=1, max_size=3),
    st.lists(st.tuples(st.sets(st.integers(0, 2), max_size=3), st.integers(6, 8)), max_size=7),
)
@example([Kind(2, distinct=True), Kind(1)], [({0, 1}, 7), ({0}, 8), ({0, 1}, 8)])
def test_as_many_adapters_are_assigned_as_can_be(
    kinds: list[Kind], adapters: list[tuple[set[int], int]]
) -> None:
    """Each adapter is added if, and only if, all that were added before it can be assigned beside it."""
    fit = {n: sorted(k for k in its if k < len(kinds)) for n, (its, _) in enumerate(adapters)}
    generations = {n: generation for n, (_, generation) in enumerate(adapters)}
    made = Assignment(kinds, generations)
    added: list[int] = []
    for adapter, its in fit.items():
        possible = dealable(kinds, [*added, adapter], fit, generations)
        assert made.add(adapter, its) == possible
        added += [adapter] if possible else []
        assert sorted(made.adapters) == added


def dealable(
    kinds: list[Kind], adapters: list[int], fit: dict[int, list[int]], generations: dict[int, int]
) -> bool:
    for dealt in itertools.product(*(fit[adapter] for adapter in adapters)):
        for kind, wanted in enumerate(kinds):
            mine = [generations[a] for a, its in zip(adapters, dealt) if its == kind]
            if len(mine) > wanted.adapters or (wanted.distinct and len(set(mine)) < len(mine)):
                break
        else:
            return True
    return False

# SPDX-License-Identifier: Apache-2.0
"""Choosing queues by their properties: least collateral, against brute force, and the impossible."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.kernel.cards import parse_mkvps
from apvfio.model.cards import Card, CardFacts
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError, HostError, PolicyError
from apvfio.model.host import Host, MaskBits
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, ENDING, Ledger
from apvfio.model.master_keys import MasterKey, SeenKeys
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Policy
from apvfio.model.request import Request
from apvfio.plan.options import free_options
from apvfio.plan.selection import choose_queues
from apvfio.plan.selection_assignment import Kind
from apvfio.plan.selection_rectangle import Line, cheapest
from apvfio.plan.start_plan import make_plan
from criteria import a_criteria
from hosts import BOOT, IBM_DOMAINS, NO_LEASES, a_host, a_lease, a_ledger, a_matrix, guest, mdev

NO_POLICY = Policy()


LONG_AGO = "1970-01-01T00:00:00.000+00:00"


def fresh(*keys: str) -> SeenKeys:
    return SeenKeys(tuple(MasterKey("wk", key) for key in keys), LONG_AGO, fresh=True)


ALL_EP11 = CardFacts({adapter: Card("ep11", 8) for adapter in range(256)})
IBM = CardFacts({0: Card("accel", 8), 1: Card("cca", 8), 10: Card("ep11", 7)})
KEY, OTHER_KEY = "ab" * 16, "cd" * 16


def asking(wanted: Criteria, n: int = 1) -> Request:
    return Request(f"g{n}", guest(n), mdev(n), Matrix(), criteria=wanted)


def chosen(
    wanted: Criteria,
    host: Host | None = None,
    ledger: Ledger = NO_LEASES,
    policy: Policy = NO_POLICY,
    known: CardFacts = ALL_EP11,
) -> Matrix:
    return choose_queues(asking(wanted), host or a_host(), ledger, policy, known=known)


def test_one_queue_of_a_mode() -> None:
    # Freed by its domain 0a.0001 costs 00.0001 and 01.0001, by its adapter three queues.
    assert chosen(a_criteria("ep11"), known=IBM) == a_matrix("10", "1")
    assert chosen(a_criteria("cca", control_domains=IdSet([7])), known=IBM) == Matrix(
        IdSet([1]), IdSet([1]), IdSet([7])
    )


def test_a_whole_adapter_costs_nobody_anything() -> None:
    assert chosen(a_criteria("ep11", domains=4), known=IBM) == Matrix(IdSet([10]), IBM_DOMAINS)


def test_queues_that_are_free_already_are_taken_first() -> None:
    assert chosen(a_criteria("ep11"), a_host(apmask=ALL_IDS - IdSet([1]))) == a_matrix("1", "1")
    assert chosen(a_criteria("ep11"), a_host(aqmask=ALL_IDS - IdSet([4]))) == a_matrix("0", "4")


def test_spread_over_the_cards_that_serve_least() -> None:
    ledger = a_ledger(a_lease("0", "1", 2, BY_DOMAINS), a_lease("1", "1", 3, BY_DOMAINS))
    host = a_host(
        aqmask=ALL_IDS - IdSet([1, 2]), mdevs={mdev(2): a_matrix("0", "1"), mdev(3): a_matrix("1", "1")}
    )
    # 10.1 is free and nobody uses card 10.
    assert chosen(a_criteria("ep11"), host, ledger) == a_matrix("10", "1")
    assert chosen(a_criteria("ep11", adapters=2), host, ledger) == a_matrix("0,10", "2")


def test_where_queues_move_one_by_one_only_the_load_and_the_ids_count() -> None:
    policy = Policy(mechanism="overrides")
    assert chosen(a_criteria("ep11", 2, 2), policy=policy) == a_matrix("0-1", "1-2")
    host = a_host(overrides={Apqn(0, 1): "none", Apqn(1, 1): "vfio_ap"})
    assert chosen(a_criteria("ep11"), host) == a_matrix("0", "2")


def test_what_a_guest_had_it_gets_again() -> None:
    before = NO_LEASES.with_last_given(guest(1), a_matrix("1", "4"))
    assert chosen(a_criteria("ep11"), ledger=before) == a_matrix("1", "4")
    # Of another size, of another mode, held, or reserved: not.
    assert chosen(a_criteria("ep11", domains=2), ledger=before) == a_matrix("0", "1-2")
    assert chosen(a_criteria("ep11"), ledger=before, known=IBM) == a_matrix("10", "1")
    taken = before.with_lease(a_lease("1", "4", 2, BY_DOMAINS))
    assert chosen(a_criteria("ep11"), a_host(aqmask=ALL_IDS - IdSet([4])), taken) == a_matrix("0", "4")
    assert chosen(a_criteria("ep11"), ledger=before, policy=Policy(domains=IdSet([4]))) == a_matrix("0", "1")
    # Free, but to be freed only with reserved queues.
    policy = Policy(frozenset([Apqn(0, 4), Apqn(1, 1)]))
    assert chosen(a_criteria("ep11"), ledger=before, policy=policy) == a_matrix("0", "2")


def test_what_somebody_assigned_to_its_device_it_gets() -> None:
    host = a_host(apmask=ALL_IDS - IdSet([1]), mdevs={mdev(1): a_matrix("1", "27")})
    assert chosen(a_criteria("ep11"), host) == a_matrix("1", "27")


def test_its_own_lease_of_an_earlier_life_is_no_obstacle() -> None:
    host = a_host(IdSet([1]), IdSet([1]), aqmask=ALL_IDS - IdSet([1]), mdevs={mdev(1): a_matrix("1", "1")})
    assert chosen(a_criteria("ep11"), host, a_ledger(a_lease("1", "1", 1, BY_DOMAINS))) == a_matrix("1", "1")
    ended = a_ledger(a_lease("1", "1", 2, BY_DOMAINS, ENDING))
    assert chosen(a_criteria("ep11"), host._replace(mdevs={mdev(2): a_matrix("1", "1")}), ended) == a_matrix(
        "1", "1"
    )


def test_the_policys_way_comes_before_the_costs() -> None:
    # By its domain 1 it costs two queues, by its adapter three.
    assert chosen(a_criteria("ep11"), policy=Policy(prefer="adapters")) == a_matrix("0", "1")
    host = a_host(IdSet([0, 1]), IdSet([1, 2, 3]))
    reserved = frozenset([Apqn(0, 3)])
    assert chosen(a_criteria("ep11"), host, policy=Policy(reserved, prefer="adapters")) == a_matrix("1", "1")
    everywhere = frozenset([Apqn(0, 3), Apqn(1, 3)])
    assert chosen(a_criteria("ep11"), host, policy=Policy(everywhere, prefer="adapters")) == a_matrix(
        "0", "1"
    )


def test_the_policys_reserve_closes_ways() -> None:
    host = a_host(IdSet([0, 1]), IdSet([1, 2]))
    # 00.0001 reserved: domain 1 and adapter 0 are closed, so 01.* by adapter 1 or *.0002 by domain 2.
    policy = Policy(frozenset([Apqn(0, 1)]))
    assert chosen(a_criteria("ep11"), host, policy=policy) == a_matrix("0", "2")
    with pytest.raises(PolicyError, match="could be freed only with queues that must stay") as caught:
        chosen(a_criteria("ep11"), host, policy=Policy(frozenset([Apqn(0, 1), Apqn(1, 2)])))
    assert set(caught.value.queues) == {Apqn(0, 1), Apqn(1, 2)}


def test_a_master_key() -> None:
    wanted = a_criteria("ep11", mkvp=KEY)
    keys = {Apqn(a, d): fresh(OTHER_KEY) for a in (0, 1, 10) for d in IBM_DOMAINS}
    known = ALL_EP11._replace(keys={**keys, Apqn(1, 4): fresh(KEY + "00" * 16)})
    assert chosen(wanted, known=known) == a_matrix("1", "4")
    known = known._replace(keys={**keys, Apqn(10, 27): fresh(OTHER_KEY, KEY)})
    assert chosen(wanted, known=known) == a_matrix("10", "27")


def test_a_key_that_was_read_comes_before_any_that_is_remembered() -> None:
    wanted = a_criteria("ep11", mkvp=KEY)
    remembered = {Apqn(0, d): SeenKeys((MasterKey("wk", KEY),), LONG_AGO) for d in IBM_DOMAINS}
    known = ALL_EP11._replace(keys=remembered)
    assert chosen(wanted, known=known) == a_matrix("0", "1")
    assert chosen(wanted, known=known._replace(keys={**remembered, Apqn(10, 27): fresh(KEY)})) == a_matrix(
        "10", "27"
    )


REMEMBERED = SeenKeys((MasterKey("wk", OTHER_KEY),), LONG_AGO)
SMALL = a_host(IdSet([10]), IdSet([1, 2]))


@pytest.mark.parametrize(
    ("wanted", "host", "ledger", "policy", "known", "says"),
    [
        (
            a_criteria("ep11", min_generation=8),
            a_host(),
            NO_LEASES,
            NO_POLICY,
            IBM,
            "adapters in mode ep11: 0a; adapters of generation 8 or later: none (0a is CEX7).",
        ),
        (
            a_criteria("ep11"),
            a_host(IdSet([0, 1])),
            NO_LEASES,
            NO_POLICY,
            IBM,
            "; adapters in mode ep11: none (00 is accel, 01 is cca).",
        ),
        (
            a_criteria("ep11"),
            a_host(),
            NO_LEASES,
            NO_POLICY,
            CardFacts({}),
            "adapters in mode ep11: none (there are no cards).",
        ),
        (
            a_criteria("ep11"),
            a_host(),
            NO_LEASES,
            NO_POLICY,
            CardFacts({10: Card("ep11", 8, "deconfigured")}),
            "adapters in working order: none (0a is deconfigured).",
        ),
        (
            a_criteria("ep11", domains=2),
            SMALL,
            NO_LEASES,
            Policy(domains=IdSet([2])),
            IBM,
            "no rectangle of 1 adapter x 2 domains is among the 1 queue left (0a.0001); "
            "adapters in mode ep11: 0a; queues neither reserved nor drained: 0a.0001 (reserved: 0a.0002).",
        ),
        (
            a_criteria("ep11"),
            SMALL._replace(drivers={Apqn(10, 1): "", Apqn(10, 2): "cex9queue"}),
            NO_LEASES,
            NO_POLICY,
            IBM,
            "queues bound to cex4queue or vfio_ap: none (bound to no driver: 0a.0001; bound to cex9queue: "
            "0a.0002).",
        ),
        (
            a_criteria("ep11"),
            SMALL._replace(mdevs={mdev(7): a_matrix("10", "1")}),
            a_ledger(a_lease("10", "2", 2)),
            NO_POLICY,
            IBM,
            f"none (held by the mediated device {mdev(7)}: 0a.0001; held by guest g2: 0a.0002).",
        ),
        (
            a_criteria("ep11", mkvp=KEY),
            SMALL,
            NO_LEASES,
            NO_POLICY,
            IBM._replace(keys={Apqn(10, 1): fresh()}),
            "none (no valid key: 0a.0001; key unknown, as it was never read while the host had the queue: "
            "0a.0002).",
        ),
        (
            a_criteria("ep11", mkvp=KEY),
            SMALL,
            NO_LEASES,
            NO_POLICY,
            IBM._replace(keys={Apqn(10, 1): fresh(OTHER_KEY), Apqn(10, 2): fresh(OTHER_KEY)}),
            f"queues with master key 0x{KEY}: none (wk 0x{OTHER_KEY}: 0a.0001, 0a.0002).",
        ),
        (
            a_criteria("ep11", mkvp=KEY),
            SMALL,
            NO_LEASES,
            NO_POLICY,
            IBM._replace(
                keys={
                    Apqn(10, 1): SeenKeys((MasterKey("wk", OTHER_KEY),), LONG_AGO),
                    Apqn(10, 2): SeenKeys((), LONG_AGO),
                }
            ),
            f"none (wk 0x{OTHER_KEY} when read at 1970-01-01T00:00:00Z: 0a.0001; "
            "no valid key when read at 1970-01-01T00:00:00Z: 0a.0002).",
        ),
        (
            a_criteria("ep11"),
            SMALL._replace(overrides=dict.fromkeys(SMALL.drivers, "none")),
            NO_LEASES,
            NO_POLICY,
            IBM,
            "none (kept for 'none' by driver_override: 0a.0001, 0a.0002).",
        ),
    ],
)
def test_the_impossible_says_which_condition_ruled_out_what(
    wanted: Criteria, host: Host, ledger: Ledger, policy: Policy, known: CardFacts, says: str
) -> None:
    with pytest.raises(HostError) as caught:
        chosen(wanted, host, ledger, policy, known)
    text = str(caught.value)
    assert says in text
    assert text.startswith("guest g1: ")
    assert caught.value.remedy
    assert "\n" not in text


def test_a_full_host_with_cards_that_all_differ_is_searched_in_time() -> None:
    """16 adapters x 85 domains, every adapter with other queues: the exact search, 12,870 sets."""
    full = a_host(IdSet(range(16)), IdSet(range(85)))
    gone = {Apqn(a, 3 * a + k) for a in range(16) for k in range(3)}
    host = full._replace(drivers={q: d for q, d in full.drivers.items() if q not in gone})
    started = time.monotonic()
    found = chosen(a_criteria("ep11", 8, 40), host)
    assert time.monotonic() - started < 20
    assert (len(found.adapters), len(found.domains)) == (8, 40)
    assert all(queue in host.drivers for queue in found.queues())


def test_a_search_that_is_too_long_ends_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apvfio.plan.selection_rectangle.LIMIT", 50)
    adapters = [Line(a, ((1 << 20) - 1 - (1 << a),)) for a in range(20)]
    domains = [Line(d, ((1 << 20) - 1 - (1 << d),)) for d in range(20)]
    found = cheapest(adapters, domains, [Kind(10)], 10)
    assert found is not None
    assert not set(found.adapters) & set(found.domains)


ids = st.sets(st.integers(0, 4), min_size=1).map(IdSet)
some = st.sets(st.integers(0, 4)).map(IdSet)
queues = st.sets(st.builds(Apqn, st.integers(0, 4), st.integers(0, 4)), max_size=4)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Host, Ledger, Policy, CardFacts]:
    host = a_host(draw(ids), draw(ids), apmask=ALL_IDS - draw(some), aqmask=ALL_IDS - draw(some))
    missing = draw(queues)
    drivers = {queue: driver for queue, driver in host.drivers.items() if queue not in missing}
    modes = {a: Card(draw(st.sampled_from(["ep11", "ep11", "cca"])), 8) for a in range(5)}
    ledger = Ledger(BOOT, {}, MaskBits())
    if draw(st.booleans()):
        held = Matrix(IdSet([draw(st.integers(0, 4))]), IdSet([draw(st.integers(0, 4))]))
        ledger = ledger.with_lease(a_lease("0", "0", 2)._replace(matrix=held))
    policy = Policy(frozenset(draw(queues)), prefer=draw(st.sampled_from(["", "", BY_ADAPTERS, BY_DOMAINS])))
    return host._replace(drivers=drivers), ledger, policy, CardFacts(modes)


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(1, 3), st.integers(1, 3))
def test_no_rectangle_costs_the_host_less(
    situation: tuple[Host, Ledger, Policy, CardFacts], height: int, width: int
) -> None:
    """Against all rectangles, priced by the planner's own ways; and the planner can carry the choice out."""
    host, ledger, policy, known = situation
    all_of_them = {
        matrix: price
        for adapters in itertools.combinations(range(5), height)
        for domains in itertools.combinations(range(5), width)
        if (price := priced(matrix := Matrix(IdSet(adapters), IdSet(domains)), situation))
    }
    wanted = a_criteria("ep11", height, width)
    try:
        found = choose_queues(asking(wanted), host, ledger, policy, known=known)
    except ApvfioError:
        assert not all_of_them
        return
    assert found == min(all_of_them, key=lambda matrix: all_of_them[matrix])
    plan = make_plan(asking(wanted)._replace(matrix=found), host, ledger, policy)
    assert len(plan.chosen.collateral) == all_of_them[found][1]


def priced(
    matrix: Matrix, situation: tuple[Host, Ledger, Policy, CardFacts]
) -> tuple[bool, int, int, int, list[int], list[int]] | None:
    """What a rectangle costs, None if it does not satisfy the criteria or cannot be freed."""
    host, ledger, policy, known = situation
    held = [lease.matrix for lease in ledger.active_leases()]
    loads = [queue.adapter for other in held for queue in other.queues()]
    for queue in matrix.queues():
        fits = queue in host.drivers and known.cards[queue.adapter].mode == "ep11"
        if not fits or policy.reserves(queue) or any(other.holds(queue) for other in held):
            return None
    both = [way for way in free_options(matrix, [], host, MaskBits(), policy) if not way.reserved]
    if not both:
        return None
    way = min(both, key=lambda way: (bool(policy.prefer) and way.name != policy.prefer, way.cost[:2]))
    load = sum(loads.count(adapter) for adapter in matrix.adapters)
    against = bool(policy.prefer) and way.name != policy.prefer
    return (against, *way.cost[:2], load, list(matrix.adapters), list(matrix.domains))


def test_the_kernels_text_of_keys() -> None:
    text = (
        "AES NEW: full 0x0123456789abcdef\nAES CUR: valid 0x7FF81BB1A3B2DA2F\n"
        "AES OLD: valid 0x1111111111111111\n"
        "APKA NEW: empty 0x0000000000000000\nAPKA CUR: invalid 0x2222222222222222\nAPKA OLD: - -\n"
        "ASYM NEW: - -\nASYM CUR: valid 0x" + "A1" * 16 + "\nASYM OLD: - -\n"
    )
    assert parse_mkvps(text) == (MasterKey("aes", "7ff81bb1a3b2da2f"), MasterKey("asym", "a1" * 16))
    assert parse_mkvps("WK CUR: valid 0x" + "Ef" * 32 + "\nWK NEW: empty -\n") == (
        MasterKey("wk", "ef" * 32),
    )
    assert parse_mkvps("WK CUR: uninitialized -\nWK NEW: empty -\n") == ()
    assert parse_mkvps("WK CUR: - -\nWK NEW: - -\n") is None
    assert parse_mkvps("") is None

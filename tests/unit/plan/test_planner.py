# SPDX-License-Identifier: Apache-2.0
"""Plans: the way of least collateral, what is refused, and the steps that are due."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError
from apvfio.model.host import Host, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, ENDING, STARTING, Ledger
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.policy import Policy
from apvfio.plan.options import free_options
from apvfio.plan.start_plan import make_plan
from apvfio.plan.steps import pending_steps, returnable, returned_by_others
from hosts import NO_LEASES, a_host, a_lease, a_ledger, a_matrix, a_request, mdev

NO_POLICY = Policy()


def test_ibms_guest_on_ibms_host() -> None:
    plan = make_plan(a_request("0,0xa", "1,2,4"), a_host(), NO_LEASES, NO_POLICY)
    # Its adapters cost 00.001b and 0a.001b, its domains would cost 01.0001, 01.0002 and 01.0004.
    assert plan.freed_by == BY_ADAPTERS
    assert [str(queue) for queue in plan.chosen.collateral] == ["00.001b", "0a.001b"]
    assert plan.runner_up is not None
    assert [str(queue) for queue in plan.runner_up.collateral] == ["01.0001", "01.0002", "01.0004"]
    assert [(step.op, step.value) for step in plan.steps] == [
        ("free", "-0,-10"),
        ("create", mdev(1)),
        ("assign", a_matrix("0,10", "1,2,4").as_ap_config()),
    ]
    assert plan.chzdev() == ["chzdev --type ap --active apmask=-0,-10"]
    assert plan.warnings == ("the host loses 2 collateral queues: 00.001b, 0a.001b",)
    assert plan.ledger.pending == MaskBits(IdSet([0, 10]), NO_IDS)
    assert plan.lease.state == STARTING


def test_a_kernel_without_ap_config_gets_one_id_a_write() -> None:
    plan = make_plan(a_request("0", "1,2"), a_host(ap_config=False), NO_LEASES, NO_POLICY)
    device = f"devices/vfio_ap/matrix/{mdev(1)}"
    assert [(step.path, step.value) for step in plan.steps[2:]] == [
        (f"{device}/assign_adapter", "0x0"),
        (f"{device}/assign_domain", "0x1"),
        (f"{device}/assign_domain", "0x2"),
    ]


def test_a_guest_whose_queues_are_free_changes_no_mask() -> None:
    host = a_host(aqmask=ALL_IDS - IdSet([4]))
    plan = make_plan(a_request("0-1", "4"), host, NO_LEASES, NO_POLICY)
    assert plan.freed_by == "none"
    assert plan.lease.freed_by == BY_DOMAINS
    assert plan.runner_up is None
    assert [step.op for step in plan.steps] == ["create", "assign"]
    assert not plan.ledger.pending


def test_json_is_what_the_contract_says() -> None:
    document = make_plan(a_request("0", "1"), a_host(), NO_LEASES, NO_POLICY).as_json()
    assert list(document) == [
        "guest",
        "secure_execution",
        "mdev",
        "queues",
        "mechanism",
        "freed_by",
        "preference_reason",
        "collateral",
        "alternative",
        "steps",
        "deferred",
        "chzdev",
        "master_keys",
        "warnings",
        "running",
        "keeps",
    ]
    assert document["mechanism"] == "masks"
    assert document["steps"][0] == {"op": "free", "path": "/sys/bus/ap/aqmask", "value": "-1"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("request_", "host", "ledger", "policy", "error", "says"),
    [
        (a_request("5", "1"), a_host(), NO_LEASES, NO_POLICY, HostError, "no adapter 5 (0x5); it has 0-1,10"),
        (
            a_request("0", "9,200"),
            a_host(),
            NO_LEASES,
            NO_POLICY,
            HostError,
            "no domains 9 (0x9), 200 (0xc8)",
        ),
        (a_request("0", "1"), a_host(vfio_ap=False), NO_LEASES, NO_POLICY, HostError, "modprobe vfio_ap"),
        (
            a_request("0-1", "1"),
            a_host(overrides={Apqn(1, 1): "none"}),
            NO_LEASES,
            NO_POLICY,
            ConflictError,
            "01.0001 is kept for the driver 'none' by driver_override.",
        ),
        (
            a_request("0-1", "1", 2),
            a_host(),
            a_ledger(a_lease("0", "1,2")),
            NO_POLICY,
            ConflictError,
            "guest g2: 00.0001 is held by guest g1.",
        ),
        (
            a_request("0", "1"),
            a_host(mdevs={mdev(7): a_matrix("0", "1")}),
            NO_LEASES,
            NO_POLICY,
            ConflictError,
            f"held by the mediated device {mdev(7)}",
        ),
        (
            a_request("0", "1")._replace(mdev=mdev(2)),
            a_host(),
            a_ledger(a_lease("1", "2", 2)),
            NO_POLICY,
            ConflictError,
            "is held by guest g2",
        ),
        (
            a_request("0", "1"),
            a_host(mdevs={mdev(1): a_matrix("1", "2")}),
            NO_LEASES,
            NO_POLICY,
            ConflictError,
            "already exists with adapters 1, domains 2",
        ),
        (
            a_request("0-1", "27"),
            a_host(),
            NO_LEASES,
            Policy(frozenset([Apqn(1, 27)])),
            PolicyError,
            "01.001b is reserved for the host",
        ),
        (
            a_request("0", "1"),
            a_host(),
            NO_LEASES,
            Policy(frozenset([Apqn(0, 27), Apqn(10, 1)])),
            PolicyError,
            "freeing by domains would take 0a.0001; freeing by adapters would take 00.001b",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    request_: object, host: Host, ledger: Ledger, policy: Policy, error: type[ApvfioError], says: str
) -> None:
    with pytest.raises(error) as caught:
        make_plan(request_, host, ledger, policy)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert str(caught.value).startswith("guest g")


def test_an_absent_queue_of_present_adapters_and_domains() -> None:
    host = a_host()
    drivers = {queue: driver for queue, driver in host.drivers.items() if queue != Apqn(1, 2)}
    with pytest.raises(HostError, match=r"no queue 01\.0002"):
        make_plan(a_request("0-1", "2"), host._replace(drivers=drivers), NO_LEASES, NO_POLICY)


def test_a_reserved_queue_closes_the_cheaper_way() -> None:
    plan = make_plan(a_request("0,0xa", "1,2,4"), a_host(), NO_LEASES, Policy(frozenset([Apqn(10, 27)])))
    assert plan.freed_by == BY_DOMAINS
    assert plan.runner_up is None


def test_the_annotation_and_before_it_the_policy_choose_the_way() -> None:
    requested = a_request("0,0xa", "1,2,4")._replace(free_by=BY_DOMAINS)
    assert make_plan(requested, a_host(), NO_LEASES, NO_POLICY).freed_by == BY_DOMAINS
    assert make_plan(requested, a_host(), NO_LEASES, Policy(prefer=BY_ADAPTERS)).freed_by == BY_ADAPTERS
    assert (
        make_plan(a_request("0,0xa", "1,2,4"), a_host(), NO_LEASES, Policy(prefer=BY_DOMAINS)).freed_by
        == BY_DOMAINS
    )
    kept = Policy(frozenset([Apqn(1, 4)]))
    with pytest.raises(
        PolicyError, match=r"freeing by domains, as its annotation requests, would take 01\.0004"
    ):
        make_plan(requested, a_host(), NO_LEASES, kept)
    assert make_plan(requested, a_host(), NO_LEASES, kept._replace(prefer=BY_DOMAINS)).freed_by == BY_ADAPTERS


def test_a_reserved_queue_that_is_not_there_is_warned_of() -> None:
    policy = Policy(frozenset([Apqn(12, 1), Apqn(1, 27)]))
    warnings = make_plan(a_request("0", "1"), a_host(), NO_LEASES, policy).warnings
    assert warnings[-1] == "0c.0001, reserved by the policy, is not on this host"


def test_a_guest_that_starts_again_takes_over_what_it_held() -> None:
    held = a_lease("0", "1-2")
    host = a_host(apmask=ALL_IDS - IdSet([0]), mdevs={mdev(1): held.matrix})
    ledger = a_ledger(held)._replace(pending=MaskBits(IdSet([0]), NO_IDS))
    same = make_plan(a_request("0", "1-2"), host, ledger, NO_POLICY)
    assert same.steps == []
    assert same.lease.created
    other = make_plan(a_request("1", "4"), host, ledger, NO_POLICY)
    assert [step.op for step in other.steps] == ["remove", "return", "free", "create", "assign"]
    assert other.ledger.pending == MaskBits(IdSet([0]), IdSet([4]))
    # Adapter 0 is still in the device at that moment: it goes back with the next call.
    after = host._replace(aqmask=ALL_IDS - IdSet([4]), mdevs={mdev(1): a_matrix("1", "4")})
    assert [(step.op, step.value) for step in pending_steps(other.ledger, after)] == [("return", "+0")]


def test_a_guest_with_a_new_device_leaves_the_old_one_behind() -> None:
    host = a_host(apmask=ALL_IDS - IdSet([0]), mdevs={mdev(1): a_matrix("0", "1")})
    ledger = a_ledger(a_lease("0", "1"))
    plan = make_plan(a_request("0", "1")._replace(mdev=mdev(9)), host, ledger, NO_POLICY)
    assert [step.op for step in plan.steps] == ["remove", "create", "assign"]


def test_a_device_made_by_somebody_else_with_the_same_queues_is_used_and_left() -> None:
    host = a_host(apmask=ALL_IDS - IdSet([0]), mdevs={mdev(1): a_matrix("0", "1")})
    plan = make_plan(a_request("0", "1"), host, NO_LEASES, NO_POLICY)
    assert not plan.lease.created
    assert plan.steps == []
    ended = plan.ledger.with_ending(plan.lease.uuid)
    assert pending_steps(ended, host) == []


def test_the_bits_of_a_neighbour_stay_clear_until_it_ends() -> None:
    host = a_host(apmask=ALL_IDS - IdSet([0]), mdevs={mdev(2): a_matrix("0", "2")})
    one, two = a_lease("0", "1", 1, state=ENDING), a_lease("0", "2", 2)
    ledger = a_ledger(one, two)._replace(pending=MaskBits(IdSet([0]), NO_IDS))
    assert pending_steps(ledger, host) == []
    last = ledger.with_ending(two.uuid)
    assert [(step.op, step.value) for step in pending_steps(last, host)] == [
        ("remove", "1"),
        ("return", "+0"),
    ]


def test_a_pending_return_that_somebody_else_did_is_dropped() -> None:
    ledger = NO_LEASES._replace(pending=MaskBits(IdSet([0, 1]), IdSet([4])))
    host = a_host(apmask=ALL_IDS - IdSet([1]))
    assert returned_by_others(ledger, host) == MaskBits(IdSet([0]), IdSet([4]))
    assert returned_by_others(ledger.with_lease(a_lease("0", "1")), host) == MaskBits(NO_IDS, IdSet([4]))


@pytest.mark.parametrize(
    ("strict", "held", "pending", "back"),
    [
        (True, a_matrix("1", "6"), MaskBits(IdSet([1]), NO_IDS), MaskBits()),
        (True, a_matrix("1", "6"), MaskBits(IdSet([2]), NO_IDS), MaskBits(IdSet([2]), NO_IDS)),
        # Before 7.x the queue counts: 01.0006 stays free by its domain.
        (False, a_matrix("1", "6"), MaskBits(IdSet([1]), NO_IDS), MaskBits(IdSet([1]), NO_IDS)),
        (False, a_matrix("1", "7"), MaskBits(IdSet([1]), NO_IDS), MaskBits()),
        # Either mask may give up its bit, not both.
        (False, a_matrix("1", "6"), MaskBits(IdSet([1]), IdSet([6])), MaskBits(NO_IDS, IdSet([6]))),
        # While adapter 3 is set, domain 6 cannot go back, and so does not keep adapter 1 from it.
        (False, a_matrix("1,3", "6"), MaskBits(IdSet([1]), IdSet([6])), MaskBits(IdSet([1]), NO_IDS)),
    ],
)
def test_what_a_foreign_device_holds_cannot_go_back(
    strict: bool, held: Matrix, pending: MaskBits, back: MaskBits
) -> None:
    host = a_host(
        IdSet([1, 2]),
        IdSet([5, 6, 7]),
        apmask=ALL_IDS - IdSet([1, 2]),
        aqmask=ALL_IDS - IdSet([6]),
        strict_return=strict,
    )
    assert returnable(NO_LEASES._replace(pending=pending), host, [held]) == back


small_ids = st.sets(st.integers(0, 5), min_size=1).map(IdSet)


@settings(deadline=None)
@given(small_ids, small_ids, small_ids, small_ids, st.data())
def test_no_cover_of_a_rectangle_costs_the_host_less(
    adapters: IdSet, domains: IdSet, free_adapters: IdSet, free_domains: IdSet, data: st.DataObject
) -> None:
    """The two ways against every pair of masks: brute force over all bits that could be cleared."""
    host = a_host(adapters, domains, apmask=ALL_IDS - free_adapters, aqmask=ALL_IDS - free_domains)
    matrix = Matrix(
        IdSet(data.draw(st.sets(st.sampled_from(list(adapters)), min_size=1))),
        IdSet(data.draw(st.sets(st.sampled_from(list(domains)), min_size=1))),
    )
    best = free_options(matrix, [], host, MaskBits(), NO_POLICY)[0]
    hosts_own = [queue for queue in host.drivers if host.masks_give_host(queue)]

    def lost(rows: IdSet, columns: IdSet) -> int:
        gone = [queue for queue in hosts_own if queue.adapter in rows or queue.domain in columns]
        return sum(not matrix.holds(queue) for queue in gone)

    cheapest = min(
        lost(rows, columns)
        for rows in subsets(host.adapters)
        for columns in subsets(host.domains)
        if all(
            not host.masks_give_host(queue) or queue.adapter in rows or queue.domain in columns
            for queue in matrix.queues()
        )
    )
    # Queues that are free already need no bit; a mixture of both masks may then cost less than
    # either way, but would make two masks carry one guest. Never may a way cost less than any cover.
    assert len(best.collateral) >= cheapest
    if host.apmask == ALL_IDS - free_adapters and not (free_adapters & adapters or free_domains & domains):
        assert len(best.collateral) == cheapest


def subsets(ids: IdSet) -> list[IdSet]:
    return [IdSet(chosen) for n in range(len(ids) + 1) for chosen in itertools.combinations(ids, n)]

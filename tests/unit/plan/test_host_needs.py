# SPDX-License-Identifier: Apache-2.0
"""What the host needs for itself: [keep] and [busy] of the policy, on the simulated kernel."""

from __future__ import annotations

import errno

import pytest

from apvfio.engine.preview import preview_plan
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.kernel.usage import ZCRYPT_NODES, ZKEY_REPOSITORY, read_usage
from apvfio.model.errors import ApvfioError, HostError, PolicyError
from apvfio.model.host import Usage
from apvfio.model.ids import NO_IDS, format_hex
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES
from apvfio.model.matrix import Apqn
from apvfio.model.policy import IGNORE, WARN, Busy, Policy
from apvfio.model.request import Request
from apvfio.plan.start_plan import Plan, make_plan
from apvfio.sim.kernel import SimKernel
from apvfio.store.policy_file import POLICY, parse_policy
from host_usage import RULES, SAYS, Overlay, use
from hosts import NO_LEASES, a_host, a_request
from memory_host import Machine

NO_DEFAULT = {"bus/ap/ap_domain": "-1\n"}
"""A host without a default domain."""
REQUESTED = a_request("0,0xa", "1,2,4")
"""By adapters, the collateral queues are 00.001b and 0a.001b, by its domains 01.0001, 01.0002 and 01.0004."""
ASKED = "00.0002"
ROW = "0a.001b"
"""Collateral of the cheaper way, by adapters."""
COLUMN = "01.0004"


@pytest.fixture
def machine() -> Machine:
    return Machine()


def policy(machine: Machine, text: str) -> None:
    machine.files.texts[POLICY] = text


def plan(machine: Machine, request: Request = REQUESTED) -> Plan:
    return preview_plan(machine, request)


def refusal(machine: Machine, request: Request = REQUESTED) -> ApvfioError:
    before = machine.kernel.to_json()
    with pytest.raises(PolicyError) as caught:
        start_guest(machine, request)
    assert machine.kernel.to_json() == before
    assert str(caught.value).startswith("guest g1: ")
    assert "change /etc/apvfio/apvfio.toml." in str(caught.value)
    return caught.value


def named(error: ApvfioError) -> list[str]:
    return [str(queue) for queue in error.queues]


# [busy]


@pytest.mark.parametrize("rule", RULES)
def test_a_queue_in_use_closes_the_way_that_takes_it_unasked(machine: Machine, rule: str) -> None:
    policy(machine, f'[busy]\n{rule} = "refuse"\n')
    assert plan(machine).freed_by == BY_ADAPTERS
    use(machine, rule, ROW)
    found = plan(machine)
    assert found.freed_by == BY_DOMAINS
    assert found.runner_up is None
    assert start_guest(machine, REQUESTED).freed_by == BY_DOMAINS


@pytest.mark.parametrize("rule", RULES)
def test_both_ways_closed_is_an_error_that_tells_of_each(machine: Machine, rule: str) -> None:
    policy(machine, f'[reserve]\nqueues = ["{COLUMN}"]\n[busy]\n{rule} = "refuse"\n')
    use(machine, rule, ROW)
    error = refusal(machine)
    assert (
        "its queues can be freed only together with queues needed by the host: "
        f"freeing by adapters would take {ROW}, {SAYS[rule]}; "
        f"freeing by domains would take {COLUMN}, reserved for the host."
    ) in str(error)
    assert named(error) == [COLUMN, ROW]


@pytest.mark.parametrize("rule", RULES)
def test_a_queue_in_use_that_is_asked_for_closes_both_ways(machine: Machine, rule: str) -> None:
    policy(machine, f'[busy]\n{rule} = "refuse"\n')
    use(machine, rule, ASKED)
    error = refusal(machine)
    assert f"the host needs requested queues: {ASKED}, {SAYS[rule]}." in str(error)
    assert named(error) == [ASKED]


@pytest.mark.parametrize("rule", RULES)
def test_a_warning_changes_nothing_else(machine: Machine, rule: str) -> None:
    policy(machine, f'[busy]\n{rule} = "warn"\n')
    quiet = plan(machine)
    use(machine, rule, ROW)
    found = plan(machine)
    assert found.freed_by == BY_ADAPTERS
    assert found.warnings == (*quiet.warnings, f"the host loses {ROW}, {SAYS[rule]}")
    assert found.steps == quiet.steps
    assert found.runner_up
    use(machine, rule, COLUMN)
    assert plan(machine).warnings == quiet.warnings  # the way chosen does not take it


@pytest.mark.parametrize("rule", RULES)
def test_what_is_ignored_is_not_even_read(machine: Machine, rule: str) -> None:
    policy(machine, f'[busy]\n{rule} = "ignore"\n')
    use(machine, rule, ROW, ASKED)
    quiet = Machine()
    assert plan(machine).warnings == plan(quiet).warnings
    host = machine.host
    off = parse_policy(
        '[busy]\nrequests = "ignore"\nzkey = "ignore"\nzcrypt-nodes = "ignore"\ndefault-domain = "ignore"\n'
    )
    overlay = Overlay(machine, {})
    machine.files.texts.clear()
    assert read_usage(machine, host, [REQUESTED.matrix], off) == Usage()
    assert overlay.seen == []


def test_without_a_policy_requests_are_warned_of_and_declared_users_are_respected(machine: Machine) -> None:
    use(machine, "requests", ROW)
    assert plan(machine).warnings[1:] == (f"the host loses {ROW}, with requests under way",)
    use(machine, "zcrypt-nodes", ROW)
    assert plan(machine).freed_by == BY_DOMAINS
    use(machine, "zkey", COLUMN)
    assert "zkey's key 'volume1'" in str(refusal(machine))


@pytest.mark.parametrize("rule", RULES)
def test_queues_moved_one_by_one_are_those_asked_for(machine: Machine, rule: str) -> None:
    policy(machine, f'mechanism = "overrides"\n[busy]\n{rule} = "refuse"\n')
    use(machine, rule, ROW, COLUMN)
    assert plan(machine, a_request("0", "1-2")).chosen.name == BY_OVERRIDES
    use(machine, rule, ASKED)
    assert f"the host needs requested queues: {ASKED}, {SAYS[rule]}" in str(refusal(machine))
    policy(machine, f'mechanism = "overrides"\n[busy]\n{rule} = "warn"\n')
    assert plan(machine).warnings == (f"the host loses {ASKED}, {SAYS[rule]}",)


def test_the_annotation_cannot_open_a_closed_way(machine: Machine) -> None:
    requested = REQUESTED._replace(free_by=BY_ADAPTERS)
    policy(machine, '[busy]\nrequests = "refuse"\n')
    use(machine, "requests", ROW)
    error = refusal(machine, requested)
    assert f"freeing by adapters, as its annotation requests, would take {ROW}, with requests" in str(error)
    policy(machine, 'prefer = "adapters"\n[busy]\nrequests = "refuse"\n')
    assert plan(machine, requested).freed_by == BY_DOMAINS


def test_queues_that_the_host_does_not_have_are_not_taken_from_it(machine: Machine) -> None:
    machine.kernel.write("bus/ap/apmask", "-0,-10")
    policy(machine, '[keep]\naccel = 4\n[busy]\nrequests = "refuse"\n')
    use(machine, "zkey", ROW, ASKED)
    assert plan(machine).freed_by == "none"


def test_a_card_at_rest_spares_its_queues_the_questions(machine: Machine) -> None:
    overlay = Overlay(machine, NO_DEFAULT)
    assert read_usage(machine, machine.host, [REQUESTED.matrix], Policy()) == Usage()
    asked = [path for path in overlay.seen if path.endswith(("load", "q_count"))]
    assert len(asked) == 9  # three attributes of three cards
    assert not any("." in path.rpartition("/")[0].rpartition("/")[2] for path in asked)


@pytest.mark.parametrize("attribute", ["load", "pendingq_count", "requestq_count"])
def test_each_sign_of_work_counts(machine: Machine, attribute: str) -> None:
    Overlay(
        machine,
        {f"bus/ap/devices/card0a/{attribute}": "3\n", f"bus/ap/devices/{ROW}/{attribute}": "3\n"},
    )
    facts = read_usage(machine, machine.host, [REQUESTED.matrix], Policy())
    assert facts.working == {Apqn.parse(ROW)}


def test_a_card_that_goes_away_while_one_looks_has_no_requests(machine: Machine) -> None:
    host = machine.host

    def read(path: str) -> str:
        raise OSError(errno.ENOENT, path)

    machine.sysfs.read = read
    assert read_usage(machine, host, [REQUESTED.matrix], Policy()) == Usage()


def test_facts_that_the_policy_ignores_weigh_nothing() -> None:
    queue = Apqn(10, 27)
    facts = Usage(working=frozenset([queue]), keys={queue: "k"}, nodes={queue: "n"})
    nothing = make_plan(REQUESTED, a_host(), NO_LEASES, Policy())
    ignoring = Policy(busy=Busy(IGNORE, IGNORE, IGNORE))
    assert make_plan(REQUESTED, a_host(), NO_LEASES, ignoring, facts) == nothing
    warned = make_plan(REQUESTED, a_host(), NO_LEASES, Policy(busy=Busy(WARN, WARN, WARN)), facts)
    assert len(warned.warnings) == 4


def test_a_key_for_other_queues_a_broken_line_and_an_empty_node_say_nothing(machine: Machine) -> None:
    directory = f"{ZKEY_REPOSITORY}/"
    machine.files.texts |= {
        f"{directory}a.info": "apqns=77.0001,zz,,0a\napqns",
        f"{directory}b.info": "description=apqns=0a.001b\n",
        f"{directory}c.info": "",
    }
    none = format_hex(NO_IDS)
    nodes = {f"{ZCRYPT_NODES}/n/apmask": none, f"{ZCRYPT_NODES}/n/aqmask": none}
    Overlay(machine, {**NO_DEFAULT, **nodes})
    assert read_usage(machine, machine.host, [REQUESTED.matrix], Policy()) == Usage()


def test_a_node_that_is_destroyed_while_one_looks(machine: Machine) -> None:
    overlay = Overlay(machine, {f"{ZCRYPT_NODES}/n/apmask": ""})

    def read(path: str) -> str:
        if path.startswith(ZCRYPT_NODES):
            raise OSError(errno.ENODEV, "gone")
        return overlay.read(path)

    machine.sysfs.read = read
    assert plan(machine).freed_by == BY_ADAPTERS


# [keep]


@pytest.mark.parametrize(
    ("keep", "way"),
    [
        ("accel = 0", BY_ADAPTERS),
        ("cca = 4", BY_ADAPTERS),
        ("accel = 1", BY_DOMAINS),
        ("ep11 = 1", BY_DOMAINS),
        ("accel = 1\nep11 = 1\ncca = 1", BY_DOMAINS),
    ],
)
def test_the_way_that_leaves_the_host_enough_is_taken(machine: Machine, keep: str, way: str) -> None:
    policy(machine, f"[keep]\n{keep}\n")
    assert plan(machine).freed_by == way


def test_a_guest_that_asks_for_too_many_itself(machine: Machine) -> None:
    policy(machine, "[keep]\naccel = 2\n")
    error = refusal(machine)
    assert (
        "the host needs requested queues: 00.0001, 00.0002, 00.0004, "
        "leaving the host 1 queue of mode accel where 2 must stay."
    ) in str(error)
    assert named(error) == ["00.0001", "00.0002", "00.0004"]


def test_either_way_leaves_too_few(machine: Machine) -> None:
    policy(machine, "[keep]\naccel = 1\ncca = 2\n")
    text = str(refusal(machine))
    assert (
        "freeing by adapters would take 00.0001, 00.0002, 00.0004, 00.001b, leaving the host 0 queues" in text
    )
    assert (
        "freeing by domains would take 01.0001, 01.0002, 01.0004, leaving the host 1 queue of mode cca"
        in text
    )


def test_a_queue_offline_is_of_no_use_to_the_host(machine: Machine) -> None:
    policy(machine, "[keep]\nep11 = 1\n")
    machine.kernel.write(f"bus/ap/devices/{ROW}/online", "0")
    assert "leaving the host 0 queues of mode ep11 where 1 must stay" in str(refusal(machine))
    # Taking what is offline already makes the host no poorer.
    policy(machine, "[keep]\nep11 = 3\n")
    assert plan(machine, a_request("0xa", "27")).freed_by == BY_DOMAINS


def test_a_host_that_has_too_few_already_refuses_only_who_takes_more(machine: Machine) -> None:
    policy(machine, "[keep]\nep11 = 9\n")
    assert plan(machine, a_request("0", "1,2,4,27")).freed_by == BY_ADAPTERS
    assert "where 9 must stay" in str(refusal(machine, a_request("0xa", "1")))


def test_queues_kept_where_they_move_one_by_one(machine: Machine) -> None:
    policy(machine, 'mechanism = "overrides"\n[keep]\naccel = 1\nep11 = 1\n')
    assert plan(machine).chosen.name == BY_OVERRIDES
    assert "leaving the host 0 queues of mode accel" in str(refusal(machine, a_request("0", "1,2,4,27")))


def test_guests_that_run_count(machine: Machine) -> None:
    policy(machine, 'prefer = "domains"\n[keep]\ncca = 2\n')
    start_guest(machine, a_request("0", "1"))
    start_guest(machine, a_request("0", "2", 2))
    with pytest.raises(PolicyError, match="leaving the host 1 queue of mode cca"):
        start_guest(machine, a_request("1", "4", 3))
    assert len(read_host(machine.kernel).mdevs) == 2


# over-provisioning


def test_what_the_host_does_not_have_is_refused_unless_the_policy_allows_it(machine: Machine) -> None:
    requested = a_request("0,5", "1,9")
    with pytest.raises(HostError, match=r"no adapter 5 \(0x5\)"):
        plan(machine, requested)
    policy(machine, "over-provisioning = true\n")
    found = plan(machine, requested)
    assert found.warnings[-1] == (
        "the guest starts without 00.0009, 05.0001, 05.0009, which this host does not have yet"
    )


def test_a_guest_with_absent_queues_starts_and_stops(machine: Machine) -> None:
    policy(machine, "over-provisioning = true\n")
    before = machine.host
    requested = a_request("0,5", "1,9")
    start_guest(machine, requested)
    assert machine.host.mdevs == {requested.mdev: requested.matrix}
    assert machine.ledger.pending
    assert not reconcile_host(machine).steps
    release_guest(machine, requested.guest_uuid)
    assert machine.host == before


def test_an_id_that_no_host_of_this_kind_can_have() -> None:
    machine = Machine(SimKernel.new(max_adapter=63, max_domain=84))
    policy(machine, "over-provisioning = true\n")
    assert plan(machine, a_request("63", "84")).freed_by == BY_ADAPTERS
    with pytest.raises(HostError, match=r"can have no adapter 64 \(0x40\): the largest possible is 63"):
        plan(machine, a_request("64", "1"))
    with pytest.raises(HostError, match=r"can have no domain 85 \(0x55\): the largest possible is 84"):
        plan(machine, a_request("0", "85"))


def test_a_queue_missing_in_the_midst_of_others_would_cost_the_guest_its_adapter() -> None:
    host = a_host()
    del host.drivers[Apqn(1, 2)]
    with pytest.raises(HostError, match=r"no queue 01\.0002, and without it the guest would get no queue"):
        make_plan(a_request("0-1", "2"), host, NO_LEASES, Policy(over_provisioning=True))
    assert make_plan(a_request("0-1", "4,9"), host, NO_LEASES, Policy(over_provisioning=True)).warnings


def test_queues_moved_one_by_one_must_be_there(machine: Machine) -> None:
    policy(machine, "over-provisioning = true\n")
    machine.kernel.write(f"bus/ap/devices/{COLUMN}/driver_override", "vfio_ap\n")
    with pytest.raises(HostError, match=r"no queue 05\.0001, and by driver_override"):
        plan(machine, a_request("5", "1"))

# SPDX-License-Identifier: Apache-2.0
"""Guests that request adapters of several kinds, from the start to the end, on the simulated kernel."""

from __future__ import annotations

import pytest

from apvfio.engine import drain, live_change
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.migration import destination
from apvfio.model.criteria import CardCriteria, Criteria
from apvfio.model.errors import HostError
from apvfio.model.ids import IdSet
from apvfio.model.master_keys import MasterKey
from apvfio.model.matrix import Apqn, Area, Matrix
from apvfio.model.process import Process
from apvfio.model.request import Request
from apvfio.plan.live_change import LivePlan
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from domain_xml import MDEV, domain
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Machine

ME = Process(4242, 1)
CARDS = {0: "cca", 1: "cca", 2: "ep11", 3: "ep11", 4: "cca"}
BOTH = Criteria((CardCriteria("cca", 2), CardCriteria("ep11", 1)))
AES = "7ff81bb1a3b2da2f"
"""Of the key that some queues have."""


def asking(wanted: Criteria, n: int = 1) -> Request:
    return Request(f"g{n}", guest(n), mdev(n), Matrix(), criteria=wanted)


def a_machine(profile: str = "7.2") -> Machine:
    return Machine(SimKernel.new(profile, adapters=CARDS, domains=IdSet(range(3))))


def load_key(machine: Machine, *queues: tuple[int, int]) -> None:
    for queue in queues:
        machine.kernel.state.queues[Apqn(*queue)].mkvps = (
            f"AES NEW: empty 0x{'0' * 16}\nAES CUR: valid 0x{AES}\nAES OLD: - -\n"
            f"APKA NEW: - -\nAPKA CUR: valid 0x{'1' * 16}\nAPKA OLD: - -"
        )


@pytest.mark.parametrize("profile", PROFILES)
def test_a_guest_gets_adapters_of_two_modes_and_the_same_ones_again(profile: str) -> None:
    machine = a_machine(profile)
    before = machine.host
    found = start_guest(machine, asking(BOTH))
    assert found.matrix == a_matrix("0-2", "0")
    assert machine.host.mdevs == {mdev(1): found.matrix}
    other = start_guest(machine, asking(BOTH, 2)).matrix
    assert (len(other.adapters), len(other.domains)) == (3, 1)
    assert not list(other.overlap(found.matrix).queues())
    for n in (1, 2):
        release_guest(machine, guest(n))
    assert machine.host == before
    assert start_guest(machine, asking(BOTH, 2)).matrix == other


def test_what_the_modes_do_not_have_in_one_domain_is_refused() -> None:
    machine = a_machine()
    # No queue of mode ep11 is left in the domains where two of mode cca are.
    start_guest(machine, a_request("2-3", "0-1", 2))
    start_guest(machine, a_request("0-1", "2", 3))
    before = machine.snapshot()
    with pytest.raises(HostError) as caught:
        start_guest(machine, asking(BOTH))
    assert "no rectangle of (2 cca adapters + 1 ep11 adapter) x 1 domain is among the" in str(caught.value)
    assert "; for 1 ep11 adapter: adapters in mode ep11: 02, 03; queues held by no other" in str(caught.value)
    assert machine.snapshot() == before


def test_control_of_the_domains_that_it_gets() -> None:
    machine = a_machine()
    machine.kernel.set_domains(IdSet(range(3)), IdSet([1, 5]))
    wanted = BOTH._replace(control_usage=True)
    found = start_guest(machine, asking(wanted)).matrix
    assert found == Matrix(IdSet([0, 1, 2]), IdSet([1]), IdSet([1]))
    machine.kernel.attach_guest(mdev(1), "g1")
    assert machine.kernel.state.mdevs[mdev(1)].guest_matrix.control_domains == IdSet([1])
    # Running, it asks for two domains, of which the host controls one.
    with pytest.raises(HostError, match="queues of domains that the host controls: "):
        live_change.plan_change(machine, asking(wanted._replace(domains=2)), ME)
    machine.kernel.set_domains(IdSet(range(3)), IdSet([1, 2]))
    done = live_change.apply_change(machine, asking(wanted._replace(domains=2)), ME)
    live_change.commit(machine, done)
    assert machine.host.mdevs[mdev(1)] == Matrix(IdSet([0, 1, 2]), IdSet([1, 2]), IdSet([1, 2]))


def test_a_running_guest_gets_another_kind_beside_what_it_has() -> None:
    machine = a_machine()
    start_guest(machine, asking(Criteria(BOTH.cards[:1])))
    machine.kernel.attach_guest(mdev(1), "g1")
    done = live_change.apply_change(machine, asking(BOTH), ME)
    assert (done.given_up, done.gained) == ([], [Apqn(2, 0)])
    live_change.commit(machine, done)
    assert machine.host.mdevs[mdev(1)] == a_matrix("0-2", "0")
    assert live_change.plan_change(machine, asking(BOTH), ME).idle


def test_a_drain_moves_it_to_adapters_that_serve_the_same_kinds() -> None:
    machine = a_machine()
    start_guest(machine, asking(BOTH))
    machine.kernel.attach_guest(mdev(1), "g1")
    for adapter, after in ((2, "0-1,3"), (1, "0,2,4")):
        area = Area(adapters=IdSet([adapter]))
        (moved,) = drain.preview_moves(machine, area, [asking(BOTH)], ME)
        assert isinstance(moved, LivePlan)
        assert moved.plan.request.matrix == a_matrix(after, "0")
    (refused,) = drain.preview_moves(machine, Area(adapters=IdSet([2, 3])), [asking(BOTH)], ME)
    assert isinstance(refused, HostError)
    # Back to what it had, if that serves the kinds; another set of its size does not.
    back = drain.plan_back(machine, Area(), asking(BOTH), a_matrix("0-1,3", "0"), ME)
    assert back.gained == [Apqn(3, 0)]
    with pytest.raises(HostError, match=r"do not satisfy its criteria; for 2 cca adapters: adapters in mode"):
        drain.plan_back(machine, Area(), asking(BOTH), a_matrix("0,2-3", "0"), ME)


def test_a_key_in_a_register_and_when_it_was_read() -> None:
    machine = a_machine()
    load_key(machine, (0, 1), (4, 1), (1, 0))
    wanted = Criteria((CardCriteria("cca", 2, keys=(MasterKey("aes", AES),)), CardCriteria("ep11")))
    assert start_guest(machine, asking(wanted)).matrix == a_matrix("0,2,4", "1")
    release_guest(machine, guest(1))
    with pytest.raises(
        HostError, match=r"queues with APKA master key 0x7ff81bb1a3b2da2f: none \(.*aes 0x7ff8"
    ):
        preview_plan(
            machine, asking(Criteria((CardCriteria("cca", keys=(MasterKey("apka", AES),)), BOTH.cards[1])))
        )
    # Once the host does not have the queues, the key is remembered; those of other kinds do not matter.
    machine.kernel.write("bus/ap/apmask", "-0,-2,-4")
    warnings = preview_plan(machine, asking(wanted)).warnings
    said = [text for text in warnings if "cannot be read now" in text]
    assert len(said) == 1
    assert said[0].startswith("the master key of 00.0001, 04.0001 cannot be read now")


def test_it_is_expected_at_the_destination_of_a_migration() -> None:
    machine = a_machine()
    xml = domain(
        '<ap:any control-domains="usage"><ap:cards mode="cca" adapters="2"/>'
        '<ap:cards mode="ep11" adapters="1"/></ap:any>'
    )
    found = destination.preview(machine, xml)
    modes = {str(queue): one.mode for queue, one in found.equipment.items()}
    assert modes == {"00.0000": "cca", "01.0000": "cca", "02.0000": "ep11"}
    lease = destination.expect(machine, xml)
    assert machine.host.mdevs == {MDEV.lower(): lease.matrix}
    assert lease.matrix == Matrix(IdSet([0, 1, 2]), IdSet([0]), IdSet([0]))

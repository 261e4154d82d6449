# SPDX-License-Identifier: Apache-2.0
"""A running guest gets other queues: change, keep, undo, on every kind of simulated host."""

from __future__ import annotations

from functools import partial

import pytest

from apvfio.engine import live_change
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_guest_queues
from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ledger import CHANGING, HELD
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.process import Process
from apvfio.plan.live_change import LivePlan
from apvfio.sim.processes import SimProcess
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine
from model.befores import BESIDE, ONE, cells
from model.views import disagreements, still_pending, view
from skipped_waits import skip_waits

ME = Process(4242, 1)
HOSTS = [pytest.param(cell, id=str(cell)) for cell in cells()]


@pytest.fixture(params=HOSTS)
def machine(request: pytest.FixtureRequest) -> Machine:
    """A host of each kind on which guest 1 runs and has its device open."""
    made: Machine = request.param.machine()
    assert made.processes
    made.processes.table[ME.pid] = SimProcess(ME.started)
    start_guest(made, ONE)
    made.kernel.attach_guest(mdev(1), "one")
    return made


def a_change(adapters: str, domains: str) -> partial[LivePlan]:
    return partial(live_change.apply_change, request=a_request(adapters, domains, 1), changer=ME)


def seen_by_guest(machine: Machine) -> set[str]:
    """The queues in the guest's own configuration."""
    return {str(queue) for queue in machine.kernel.state.mdevs[mdev(1)].guest_matrix.queues()}


def everything_fits(machine: Machine) -> None:
    assert not disagreements(machine)
    assert not still_pending(machine)
    assert not reconcile_host(machine.process()).steps


@pytest.mark.parametrize(
    ("adapters", "domains"),
    [
        ("0,10", "1-2,4"),  # grows by a domain
        ("0-1,10", "1-2"),  # grows by an adapter
        ("10", "1-2"),  # shrinks by an adapter
        ("0,10", "2"),  # shrinks by a domain
        ("1,10", "2,4"),  # both ways at once
        ("1", "4,27"),  # nothing stays
    ],
)
def test_the_guest_gets_it_and_the_host_gets_back_what_it_gave_up(
    machine: Machine, adapters: str, domains: str
) -> None:
    wanted = a_matrix(adapters, domains)
    done = a_change(adapters, domains)(machine)
    (lease,) = machine.ledger.leases.values()
    assert (lease.state, lease.matrix, lease.before and lease.before.matrix) == (CHANGING, wanted, ONE.matrix)
    assert seen_by_guest(machine) == set(map(str, wanted.queues()))
    live_change.commit(machine, done)
    (lease,) = machine.ledger.leases.values()
    assert (lease.state, lease.matrix, lease.before) == (HELD, wanted, None)
    assert seen_by_guest(machine) == set(map(str, wanted.queues()))
    everything_fits(machine)
    assert set(map(str, done.gained)) == seen_by_guest(machine) - set(map(str, ONE.matrix.queues()))


@pytest.mark.parametrize(
    ("adapters", "domains"), [("0,10", "1-2,4"), ("10", "1-2"), ("1,10", "2,4"), ("1", "4,27")]
)
def test_what_is_undone_leaves_the_host_as_it_was(machine: Machine, adapters: str, domains: str) -> None:
    before, ledger = view(machine), machine.ledger
    live_change.roll_back(machine, a_change(adapters, domains)(machine))
    assert view(machine) == before
    assert machine.ledger._replace(last_holder={}) == ledger._replace(last_holder={})
    everything_fits(machine)


def test_a_change_whose_process_died_is_undone(machine: Machine) -> None:
    before = view(machine)
    a_change("1,10", "2,4")(machine.process())
    assert reconcile_host(machine.process()).steps == []  # as long as it lives it may yet keep it
    assert machine.processes
    machine.processes.end(ME.pid)
    reconcile_host(machine.process())
    assert view(machine) == before
    everything_fits(machine)


def test_a_guest_that_ends_in_the_midst_takes_its_change_with_it(machine: Machine) -> None:
    fresh = view(machine)._replace(mdevs={}, guests={})
    done = a_change("1,10", "2,4")(machine)
    machine.kernel.detach_guest(mdev(1))
    release_guest(machine, guest(1))
    assert not live_change.commit(machine, done).ledger.leases
    assert not live_change.roll_back(machine, done).ledger.leases
    assert view(machine).mdevs == fresh.mdevs
    assert set(view(machine).drivers.values()) == {"cex4queue"}
    everything_fits(machine)


def test_a_device_is_not_pulled_away_in_the_midst_of_a_change(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger says already what the guest will have; the device has what it had."""
    skip_waits(monkeypatch)
    dying = machine.process()
    dying.faults.arm(2, _die)
    with pytest.raises(Killed):
        a_change("1", "4,27")(dying)
    had = seen_by_guest(machine)
    with pytest.raises(ConflictError, match="in use"):
        release_guest(machine.process(), guest(1))
    assert seen_by_guest(machine) == had


def _die() -> None:
    raise Killed


def test_a_guest_that_ends_afterwards_gives_all_back(machine: Machine) -> None:
    live_change.commit(machine, a_change("1,10", "2,4")(machine))
    machine.kernel.detach_guest(mdev(1))
    release_guest(machine, guest(1))
    assert set(view(machine).drivers.values()) == {"cex4queue"}
    assert not machine.ledger.leases
    assert not machine.ledger.pending
    everything_fits(machine)


def test_control_domains_alone(machine: Machine) -> None:
    wanted = ONE.matrix._replace(control_domains=parse_list("1,4"))
    request = ONE._replace(matrix=wanted)
    done = live_change.apply_change(machine, request, ME)
    assert (done.gained, done.given_up, done.idle) == ([], [], False)
    live_change.commit(machine, done)
    assert view(machine).mdevs[mdev(1)] == wanted
    assert str(machine.kernel.state.mdevs[mdev(1)].guest_matrix.control_domains) == "1,4"
    everything_fits(machine)


def test_nothing_to_change_moves_nothing(machine: Machine) -> None:
    before = machine.snapshot()
    assert a_change("0,10", "1-2")(machine).idle
    assert machine.snapshot() == before


def test_criteria_that_are_satisfied_move_nothing(machine: Machine) -> None:
    requested = ONE._replace(matrix=Matrix(), criteria=a_criteria("ep11", adapters=1, domains=2))
    live_change.commit(machine, a_change("10", "1-2")(machine))
    before = view(machine)
    assert live_change.apply_change(machine, requested, ME).idle
    assert view(machine) == before


def test_criteria_choose_what_the_guest_lacks(machine: Machine) -> None:
    requested = ONE._replace(matrix=Matrix(), criteria=a_criteria("ep11", adapters=1, domains=3))
    live_change.commit(machine, live_change.apply_change(machine, requested, ME))
    matrix = view(machine).mdevs[mdev(1)]
    assert (str(matrix.adapters), len(matrix.domains)) == ("10", 3)
    everything_fits(machine)


class TestRefusals:
    """Nothing has changed then."""

    def refused(self, machine: Machine, adapters: str, domains: str, kind: type[ApvfioError]) -> str:
        before = machine.snapshot()
        with pytest.raises(kind) as caught:
            a_change(adapters, domains)(machine)
        assert machine.snapshot() == before
        return str(caught.value)

    def test_another_guests_queue(self, machine: Machine) -> None:
        start_guest(machine, BESIDE)
        assert "guest g1: 01.0001, 01.0002 are held by guest g2" in self.refused(
            machine, "0-1", "1-2", ConflictError
        )

    def test_a_foreign_devices_queue(self, machine: Machine) -> None:
        start_guest(machine, BESIDE)
        machine.files.texts.pop("run/apvfio/ledger.json")
        said = self.refused(machine, "0-1", "1-2", ConflictError)
        assert "it runs, but holds no queues through mediated device" in said

    def test_a_reserved_queue(self, machine: Machine) -> None:
        machine.files.texts[POLICY] = '[reserve]\nqueues = ["01.0002"]'
        assert "01.0002 is reserved for the host" in self.refused(machine, "0-1", "1-2", PolicyError)

    def test_what_it_has_it_keeps_though_it_is_reserved_meanwhile(self, machine: Machine) -> None:
        machine.files.texts[POLICY] += '[reserve]\nqueues = ["00.0001"]'
        live_change.commit(machine, a_change("0,10", "1-2,27")(machine))
        assert len(seen_by_guest(machine)) == 6

    def test_an_adapter_that_is_not_there(self, machine: Machine) -> None:
        assert "this host has no adapter 5 (0x5)" in self.refused(machine, "0,5", "1-2", HostError)

    def test_a_change_during_a_change(self, machine: Machine) -> None:
        a_change("10", "1-2")(machine)
        assert "another call is changing its queues" in self.refused(machine, "0,10", "1", ConflictError)

    def test_a_device_of_somebody_elses(self) -> None:
        machine = Machine()
        machine.kernel.write("bus/ap/apmask", "-1")
        machine.kernel.write(AP_MDEVS.create, mdev(1))
        for kind, number in (("adapter", "1"), ("domain", "4")):
            machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/assign_{kind}", number)
        start_guest(machine, a_request("1", "4", 1))
        assert "apvfio did not create its mediated device" in self.refused(
            machine, "1", "4,27", ConflictError
        )


def test_what_another_took_meanwhile_stays_lost(machine: Machine) -> None:
    """A change cannot be undone when what the guest gave up is somebody's device by then."""
    a_change("10", "1-2")(machine.process())
    machine.kernel.write(AP_MDEVS.create, mdev(9))
    for kind, number in (("adapter", "0"), ("domain", "1")):
        machine.kernel.write(f"{AP_MDEVS.device(mdev(9))}/assign_{kind}", number)
    assert machine.processes
    machine.processes.end(ME.pid)
    reconcile_host(machine.process())
    (lease,) = machine.ledger.leases.values()
    assert (lease.state, lease.matrix) == (HELD, a_matrix("10", "1-2"))
    assert read_guest_queues(machine.kernel, mdev(1), lease.matrix) == set(lease.matrix.queues())
    assert not reconcile_host(machine.process()).steps

# SPDX-License-Identifier: Apache-2.0
"""apvfio beside IBM's DRA driver for Kubernetes on one host, as docs/kubernetes.md tells it.

The driver is a stand-in (`dra_driver`), and the kernel is simulated.
"""

from __future__ import annotations

import pytest

from apvfio.engine import live_change
from apvfio.engine.preview import preview_plan
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt.status import read_status
from apvfio.libvirt.users import foreign_devices
from apvfio.model.errors import ApvfioError, ConflictError, HostError
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Area, Matrix
from apvfio.model.owners import owners
from apvfio.model.process import Process
from apvfio.model.request import Request
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from dra_driver import DraDriver, PreflightError
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine

CLAIM, OTHER_CLAIM = mdev(90), mdev(91)
OURS = a_request("0,1", "1-2")
ME = Process(4242, 1)
AGAIN = "since apvfio set it. Try again; if that fails, too, find the program."


@pytest.fixture
def machine() -> Machine:
    made = Machine()
    made.files.texts[POLICY] = "mechanism = 'overrides'\n"
    return made


@pytest.fixture
def driver(machine: Machine) -> DraDriver:
    made = DraDriver(machine.kernel)
    made.start()
    return made


def drift(machine: Machine) -> list[str]:
    return [str(one) for one in read_status(machine, states=False).drift]


def test_the_driver_refuses_a_host_of_masks() -> None:
    machine = Machine()
    start_guest(machine, OURS)
    with pytest.raises(PreflightError, match="mask is not all ones"):
        DraDriver(machine.kernel).start()


def test_neither_touches_what_the_other_has(machine: Machine, driver: DraDriver) -> None:
    nothing = machine.host
    start_guest(machine, OURS)
    driver.prepare(CLAIM, a_matrix("10", "1"))
    both = machine.snapshot()
    driver.start()
    reconcile_host(machine)
    assert machine.snapshot() == both
    assert drift(machine) == []
    owner = owners(machine.host, machine.ledger)[Apqn(10, 1)]
    assert CLAIM in str(owner)
    area = Area(adapters=IdSet([10]))
    (named,) = foreign_devices(machine, machine.host, machine.ledger, area)
    assert named.mdev == CLAIM
    release_guest(machine, guest(1))
    assert read_host(machine.kernel).mdevs == {CLAIM: a_matrix("10", "1")}
    start_guest(machine, OURS)
    driver.unprepare(CLAIM)
    assert machine.host.mdevs == {mdev(1): OURS.matrix}
    release_guest(machine, guest(1))
    assert machine.host == nothing


def test_who_comes_second_is_refused(machine: Machine, driver: DraDriver) -> None:
    driver.prepare(CLAIM, a_matrix("10", "1"))
    with pytest.raises(ConflictError, match=f"0a.0001 is held by the mediated device {CLAIM}"):
        start_guest(machine, a_request("10", "1"))
    # By criteria, a guest gets other queues.
    asked = Request("g1", guest(1), mdev(1), Matrix(), criteria=a_criteria("ep11"))
    assert start_guest(machine, asked).matrix == a_matrix("10", "2")
    with pytest.raises(HostError, match="no rectangle of 1 adapter x 4 domains"):
        preview_plan(machine, asked._replace(criteria=a_criteria("ep11", domains=4)))
    # The driver knows nothing of guests, and the kernel refuses it the queue; the guest keeps it.
    with pytest.raises(OSError, match="Address already in use"):
        driver.prepare(OTHER_CLAIM, a_matrix("10", "2"))
    assert machine.host.mdevs == {CLAIM: a_matrix("10", "1"), mdev(1): a_matrix("10", "2")}
    assert drift(machine) == []


def test_a_reset_during_a_start(machine: Machine, driver: DraDriver) -> None:
    """Before and after each write: the guest has all its queues, or is refused and nothing is left."""
    twin = machine.twin()
    start_guest(twin, OURS)
    started, refused = 0, []
    for at in range(1, twin.faults.count + 1):
        for late in (False, True):
            trial = machine.twin()
            before = trial.host
            trial.faults.arm(at, DraDriver(trial.kernel).reset, late=late)
            try:
                start_guest(trial, OURS)
            except ConflictError as error:
                refused.append(str(error))
                assert (trial.host, trial.ledger.leases, trial.ledger.overrides) == (before, {}, {})
                # Once the driver is done, the next start succeeds.
                start_guest(trial, OURS)
            else:
                started += 1
            assert trial.host.mdevs == {mdev(1): OURS.matrix}
            assert drift(trial) == []
    # Before the first override is set, and when the device has its queues.
    assert started == 6
    assert len(refused) == 26
    assert all("guest g1: another program has changed driver_override of 0" in text for text in refused)
    assert all(text.endswith(AGAIN) for text in refused)
    assert driver.claims == {}


def test_a_reset_during_a_stop(machine: Machine) -> None:
    start_guest(machine, OURS)
    twin = machine.twin()
    release_guest(twin, guest(1))
    for at in range(1, twin.faults.count + 1):
        for late in (False, True):
            trial = machine.twin()
            trial.faults.arm(at, DraDriver(trial.kernel).reset, late=late)
            release_guest(trial, guest(1))
            reconcile_host(trial)
            assert trial.host == twin.host
            assert (trial.ledger.leases, trial.ledger.overrides) == ({}, {})
            assert drift(trial) == []


def test_a_reset_during_a_live_change(machine: Machine) -> None:
    start_guest(machine, OURS)
    machine.kernel.attach_guest(mdev(1), "g1")
    more = OURS._replace(matrix=a_matrix("0,1", "1-2,4"))
    twin = machine.twin()
    live_change.commit(twin, live_change.apply_change(twin, more, ME))
    refused = []
    for at in range(1, twin.faults.count + 1):
        for late in (False, True):
            trial = machine.twin()
            trial.faults.arm(at, DraDriver(trial.kernel).reset, late=late)
            try:
                done = live_change.apply_change(trial, more, ME)
            except ConflictError as error:
                refused.append(str(error))
                assert trial.host == machine.host
            else:
                live_change.commit(trial, done)
                assert trial.host == twin.host
            assert drift(trial) == []
    assert refused
    assert all(text.endswith(AGAIN) for text in refused)


def test_what_a_killed_start_leaves_the_driver_returns_too(machine: Machine) -> None:
    before = machine.host

    def die() -> None:
        raise Killed

    twin = machine.twin()
    start_guest(twin, OURS)
    for at in range(1, twin.faults.count + 1):
        trial = machine.twin()
        trial.faults.arm(at, die)
        with pytest.raises(Killed):
            start_guest(trial, OURS)
        DraDriver(trial.kernel).start()
        after = trial.process()
        reconcile_host(after)
        assert (after.host, after.ledger.leases, after.ledger.overrides) == (before, {}, {})


def test_queues_reserved_from_the_guests_are_the_drivers_alone(machine: Machine, driver: DraDriver) -> None:
    machine.files.texts[POLICY] += "[reserve]\nadapters = '10'\n"
    with pytest.raises(ApvfioError, match="reserved"):
        start_guest(machine, a_request("10", "1"))
    driver.prepare(CLAIM, a_matrix("10", "1-2"))
    assert machine.host.mdevs == {CLAIM: a_matrix("10", "1-2")}
    start_guest(machine, OURS)
    assert drift(machine) == []

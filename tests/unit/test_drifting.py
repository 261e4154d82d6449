# SPDX-License-Identifier: Apache-2.0
"""What others do behind apvfio's back: what is ours is repaired, what is not is left, debts are paid once."""

from __future__ import annotations

import pytest

from apvfio import broker
from apvfio.host import AP_MDEVS
from apvfio.mask import ALL_IDS, IdSet
from apvfio.policy import POLICY
from hosts import IBM_DOMAINS, a_matrix, a_request, guest, mdev
from machines import Machine


@pytest.fixture(params=["masks", "overrides"])
def machine(request: pytest.FixtureRequest) -> Machine:
    machine = Machine()
    machine.files.texts[POLICY] = f'mode = "{request.param}"\n'
    broker.acquire(machine, a_request("0", "1-2"))
    return machine


def bound(machine: Machine, driver: str) -> set[str]:
    return {str(queue) for queue, name in machine.host.drivers.items() if name == driver}


def test_a_queue_unbound_by_hand_is_bound_again(machine: Machine) -> None:
    machine.kernel.write("bus/ap/drivers/vfio_ap/unbind", "00.0001")
    outcome = broker.reconcile(machine)
    assert [(step.op, step.value) for step in outcome.steps] == [("probe", "00.0001")]
    assert outcome.seen == ("guest g1: 00.0001 is bound to no driver instead of vfio_ap",)
    assert {"00.0001", "00.0002"} <= bound(machine, "vfio_ap")
    assert machine.kernel.read(f"{AP_MDEVS.device(mdev(1))}/guest_matrix").split() == ["00.0001", "00.0002"]
    assert broker.reconcile(machine).seen == ()


def test_a_device_removed_by_hand_ends_the_lease(machine: Machine) -> None:
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")
    outcome = broker.reconcile(machine)
    assert outcome.seen == (f"guest g1: its mediated device {mdev(1)} is gone",)
    assert len(bound(machine, "cex4queue")) == 12
    assert not machine.ledger.leases
    assert not machine.ledger.owed
    assert not machine.ledger.overrides
    machine.sysfs.written.clear()
    broker.release(machine, guest(1))
    assert machine.sysfs.written == []


def test_a_matrix_changed_by_hand_is_seen_and_left(machine: Machine) -> None:
    machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/unassign_domain", "2")
    outcome = broker.reconcile(machine)
    assert outcome.steps == []
    assert "holds adapters 0, domains 1, control domains none instead of" in outcome.seen[0]
    broker.release(machine, guest(1))
    assert len(bound(machine, "cex4queue")) == 12


def test_a_card_that_goes_and_comes_back(machine: Machine) -> None:
    machine.kernel.unplug_adapter(0)
    assert "not on this host" in broker.reconcile(machine).seen[0]
    machine.kernel.plug_adapter(0, "accel")
    broker.reconcile(machine)
    assert bound(machine, "vfio_ap") >= {"00.0001", "00.0002"}
    assert broker.reconcile(machine).steps == []
    broker.release(machine, guest(1))
    assert len(bound(machine, "cex4queue")) == 12


def test_a_card_configured_off_and_on(machine: Machine) -> None:
    machine.kernel.configure(0, False)
    broker.reconcile(machine)
    machine.kernel.configure(0, True)
    assert broker.reconcile(machine).steps == []
    broker.release(machine, guest(1))
    assert len(bound(machine, "cex4queue")) == 12


def test_masks_changed_beside_ours_stay_as_they_are() -> None:
    machine = Machine()
    broker.acquire(machine, a_request("0", ",".join(map(str, IBM_DOMAINS))))
    machine.kernel.write("bus/ap/apmask", "-1")
    machine.kernel.write("bus/ap/aqmask", "-99")
    assert broker.reconcile(machine).steps == []
    broker.release(machine, guest(1))
    assert machine.host.apmask == ALL_IDS - IdSet([1])
    assert machine.host.aqmask == ALL_IDS - IdSet([99])


def test_a_foreign_device_is_nobodys_to_remove(machine: Machine) -> None:
    machine.kernel.write(AP_MDEVS.create, mdev(9))
    broker.release(machine, guest(1))
    broker.reconcile(machine)
    assert machine.host.mdevs == {mdev(9): a_matrix("0", "1").overlap(a_matrix("1", "2"))}

# SPDX-License-Identifier: Apache-2.0
"""What others do behind apvfio's back: ours is repaired, theirs is left, pending returns are done once."""

from __future__ import annotations

from contextlib import suppress
from errno import EINVAL

import pytest

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.sim.kernel import SimKernel
from apvfio.store.policy_file import POLICY
from hosts import IBM_DOMAINS, a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine


@pytest.fixture(params=["masks", "overrides"])
def machine(request: pytest.FixtureRequest) -> Machine:
    machine = Machine()
    machine.files.texts[POLICY] = f'mechanism = "{request.param}"\n'
    start_guest(machine, a_request("0", "1-2"))
    return machine


def bound(machine: Machine, driver: str) -> set[str]:
    return {str(queue) for queue, name in machine.host.drivers.items() if name == driver}


def test_a_queue_unbound_by_hand_is_bound_again(machine: Machine) -> None:
    machine.kernel.write("bus/ap/drivers/vfio_ap/unbind", "00.0001")
    outcome = reconcile_host(machine)
    assert [(step.op, step.value) for step in outcome.steps] == [("probe", "00.0001")]
    assert outcome.seen == ("guest g1: 00.0001 is bound to no driver instead of vfio_ap",)
    assert {"00.0001", "00.0002"} <= bound(machine, "vfio_ap")
    assert machine.kernel.read(f"{AP_MDEVS.device(mdev(1))}/guest_matrix").split() == ["00.0001", "00.0002"]
    assert reconcile_host(machine).seen == ()


def test_a_device_removed_by_hand_ends_the_lease(machine: Machine) -> None:
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")
    outcome = reconcile_host(machine)
    assert outcome.seen == (f"guest g1: its mediated device {mdev(1)} is gone",)
    assert len(bound(machine, "cex4queue")) == 12
    assert not machine.ledger.leases
    assert not machine.ledger.pending
    assert not machine.ledger.overrides
    machine.sysfs.written.clear()
    release_guest(machine, guest(1))
    assert machine.sysfs.written == []


def test_a_matrix_changed_by_hand_is_seen_and_left(machine: Machine) -> None:
    machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/unassign_domain", "2")
    outcome = reconcile_host(machine)
    assert outcome.steps == []
    assert "holds adapters 0, domains 1 instead of" in outcome.seen[0]
    release_guest(machine, guest(1))
    assert len(bound(machine, "cex4queue")) == 12


def test_a_card_that_goes_and_comes_back(machine: Machine) -> None:
    machine.kernel.unplug_adapter(0)
    assert "not on this host" in reconcile_host(machine).seen[0]
    machine.kernel.plug_adapter(0, "accel")
    reconcile_host(machine)
    assert bound(machine, "vfio_ap") >= {"00.0001", "00.0002"}
    assert reconcile_host(machine).steps == []
    release_guest(machine, guest(1))
    assert len(bound(machine, "cex4queue")) == 12


def test_a_card_configured_off_and_on(machine: Machine) -> None:
    machine.kernel.configure(0, False)
    reconcile_host(machine)
    machine.kernel.configure(0, True)
    assert reconcile_host(machine).steps == []
    release_guest(machine, guest(1))
    assert len(bound(machine, "cex4queue")) == 12


def test_masks_changed_beside_ours_stay_as_they_are() -> None:
    machine = Machine()
    start_guest(machine, a_request("0", ",".join(map(str, IBM_DOMAINS))))
    machine.kernel.write("bus/ap/apmask", "-1")
    machine.kernel.write("bus/ap/aqmask", "-99")
    assert reconcile_host(machine).steps == []
    release_guest(machine, guest(1))
    assert machine.host.apmask == ALL_IDS - IdSet([1])
    assert machine.host.aqmask == ALL_IDS - IdSet([99])


def test_a_foreign_device_is_nobodys_to_remove(machine: Machine) -> None:
    machine.kernel.write(AP_MDEVS.create, mdev(9))
    release_guest(machine, guest(1))
    reconcile_host(machine)
    assert machine.host.mdevs == {mdev(9): a_matrix("0", "1").overlap(a_matrix("1", "2"))}


def test_a_bit_set_for_the_host_is_not_cleared_again_where_the_other_mask_keeps_the_guests_queues() -> None:
    machine = Machine(SimKernel.new("6.12"))
    machine.files.texts[POLICY] = 'prefer = "domains"\n[reserve]\nadapters = "1"\n'
    machine.kernel.write("bus/ap/aqmask", "-1")
    start_guest(machine, a_request("0", "1"))
    machine.kernel.write("bus/ap/apmask", "-0")
    machine.kernel.write("bus/ap/aqmask", "+1")
    assert "01.0001" in bound(machine, "cex4queue")
    assert reconcile_host(machine).steps == []
    assert reconcile_host(machine).seen == ()
    release_guest(machine, guest(1))
    assert machine.host.apmask == ALL_IDS - IdSet([0])
    assert machine.host.aqmask == ALL_IDS


def test_an_override_taken_from_a_guest_that_needs_it_is_a_pending_return_when_it_is_set_again() -> None:
    machine = Machine()
    machine.kernel.write("bus/ap/devices/00.0001/driver_override", "vfio_ap")
    machine.kernel.write("bus/ap/drivers/cex4queue/unbind", "00.0001")
    machine.kernel.write("bus/ap/drivers_probe", "00.0001")
    start_guest(machine, a_request("0", "1"))
    assert not machine.ledger.overrides
    machine.kernel.write("bus/ap/devices/00.0001/driver_override", "\n")
    reconcile_host(machine)
    assert machine.host.overrides
    release_guest(machine, guest(1))
    assert not machine.host.overrides
    assert len(bound(machine, "cex4queue")) == 12


def test_a_queue_of_a_card_that_is_off_is_not_set_offline_for_good(machine: Machine) -> None:
    machine.kernel.configure(1, False)
    start_guest(machine, a_request("1", "4", 2))
    release_guest(machine, guest(2))
    machine.kernel.configure(1, True)
    assert machine.kernel.read("bus/ap/devices/01.0004/online") == "1\n"


def test_an_offline_queue_whose_way_home_was_barred_comes_home_offline() -> None:
    machine = Machine()
    machine.kernel.write("bus/ap/devices/00.0004/online", "0")
    start_guest(machine, a_request("0", ",".join(map(str, IBM_DOMAINS))))

    def make_device() -> None:
        machine.kernel.write(AP_MDEVS.create, mdev(9))
        machine.kernel.write(f"{AP_MDEVS.device(mdev(9))}/ap_config", a_matrix("0", "4").as_ap_config())

    machine.faults.arm(3, make_device)
    release_guest(machine, guest(1))
    machine.kernel.write(AP_MDEVS.remove(mdev(9)), "1")
    reconcile_host(machine)
    assert machine.kernel.read("bus/ap/devices/00.0004/online") == "0\n"


def test_a_device_made_by_another_during_the_start_is_not_removed() -> None:
    machine = Machine()
    before = machine.host
    machine.faults.arm(3, lambda: machine.kernel.write(AP_MDEVS.create, mdev(1)))
    with pytest.raises(ApvfioError, match="exists already"):
        start_guest(machine, a_request("0", "1"))
    assert list(machine.host.mdevs) == [mdev(1)]
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")
    reconcile_host(machine)
    assert machine.host == before


def test_a_half_returned_queue_whose_mask_bit_is_cleared_meanwhile_is_no_pending_return() -> None:
    machine = Machine()
    machine.files.texts[POLICY] = 'mechanism = "overrides"\n'
    start_guest(machine, a_request("0", "1"))

    def die() -> None:
        raise Killed

    machine.faults.arm(5, die)  # cleared and unbound, not probed yet
    with pytest.raises(Killed):
        release_guest(machine, guest(1))
    machine.kernel.write("bus/ap/aqmask", "-1")
    reconcile_host(machine.process())
    assert reconcile_host(machine.process()).steps == []
    assert not machine.ledger.overrides


def test_a_queue_left_without_a_driver_on_its_way_home_goes_offline_again() -> None:
    """Somebody unbound it, and the write that was to find it a driver failed."""
    machine = Machine()
    machine.kernel.write("bus/ap/devices/01.0004/online", "0")
    before = machine.host
    start_guest(machine, a_request("1", "4"))
    machine.kernel.write("bus/ap/drivers/vfio_ap/unbind", "01.0004")
    write = machine.sysfs.write

    def broken(path: str, text: str) -> None:
        if path == "bus/ap/drivers_probe":
            raise OSError(EINVAL, "no")
        write(path, text)

    machine.sysfs.write = broken  # type: ignore[method-assign]
    with suppress(ApvfioError):
        release_guest(machine, guest(1))
    machine.sysfs.write = write  # type: ignore[method-assign]
    reconcile_host(machine)
    assert machine.host == before
    assert machine.kernel.read("bus/ap/devices/01.0004/online") == "0\n"
    assert not reconcile_host(machine).steps

# SPDX-License-Identifier: Apache-2.0
"""Queues moved by driver_override: nothing unasked, everything restored, one mechanism at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.engine.preview import preview_plan
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError, ConflictError, KernelRefusedError
from apvfio.model.host import AP_MDEVS, MASKS, OVERRIDES, VFIO_DRIVER
from apvfio.model.ids import ALL_IDS
from apvfio.model.ledger import BY_OVERRIDES
from apvfio.model.matrix import Apqn
from apvfio.model.policy import Policy
from apvfio.plan.mechanism import mechanism_of
from apvfio.sim.kernel import SimKernel
from apvfio.store.policy_file import POLICY
from hosts import IBM_DOMAINS, a_matrix, a_request, guest, mdev
from memory_host import IBM_ADAPTERS, Killed, Machine

if TYPE_CHECKING:
    from collections.abc import Callable

PREFER = 'mechanism = "overrides"\n'


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.files.texts[POLICY] = PREFER
    return machine


def queues(machine: Machine) -> dict[Apqn, tuple[str, bool]]:
    """The driver of every queue, and whether it is online."""
    return {apqn: (queue.driver, queue.online) for apqn, queue in machine.kernel.state.queues.items()}


def override(machine: Machine, queue: str) -> str:
    return machine.kernel.read(f"bus/ap/devices/{queue}/driver_override")


def test_a_guest_gets_its_queues_and_the_host_loses_no_other(machine: Machine) -> None:
    before = queues(machine)
    plan = preview_plan(machine, a_request("0,0xa", "1,2"))
    assert start_guest(machine, a_request("0,0xa", "1,2")).freed_by == BY_OVERRIDES
    assert (plan.mechanism, plan.freed_by, plan.chosen.collateral, plan.chzdev()) == (
        OVERRIDES,
        "none",
        (),
        [],
    )
    wanted = {Apqn(0, 1), Apqn(0, 2), Apqn(10, 1), Apqn(10, 2)}
    assert {queue for queue, driver in machine.host.drivers.items() if driver == VFIO_DRIVER} == wanted
    assert machine.host.overrides == dict.fromkeys(wanted, VFIO_DRIVER)
    assert machine.host.apmask == ALL_IDS == machine.host.aqmask
    assert machine.ledger.leases[mdev(1)].freed_by == BY_OVERRIDES
    queue = "bus/ap/devices/00.0001/driver_override"
    assert machine.sysfs.written[:3] == [
        (queue, VFIO_DRIVER),
        ("bus/ap/drivers/cex4queue/unbind", "00.0001"),
        ("bus/ap/drivers_probe", "00.0001"),
    ]
    release_guest(machine, guest(1))
    assert machine.host.overrides == {}
    assert queues(machine) == before
    assert not machine.ledger.overrides


def test_neighbours_in_one_row_and_one_column(machine: Machine) -> None:
    for n, requested in enumerate((("0", "1"), ("0", "2"), ("1", "1")), 1):
        start_guest(machine, a_request(*requested, n))
    assert len(machine.host.overrides) == 3
    release_guest(machine, guest(2))
    assert set(machine.host.overrides) == {Apqn(0, 1), Apqn(1, 1)}
    with pytest.raises(ConflictError, match=r"00\.0001 is held by guest g1"):
        start_guest(machine, a_request("0", "1-2", 4))


def test_an_override_of_the_administrators_is_used_and_left(machine: Machine) -> None:
    machine.kernel.write("bus/ap/devices/00.0001/driver_override", VFIO_DRIVER)
    start_guest(machine, a_request("0", "1-2"))
    assert set(machine.ledger.overrides) == {Apqn(0, 2)}
    release_guest(machine, guest(1))
    assert machine.host.overrides == {Apqn(0, 1): VFIO_DRIVER}


def test_an_override_changed_behind_our_back_is_not_restored(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1"))
    machine.kernel.write("bus/ap/devices/00.0001/driver_override", "none")
    release_guest(machine, guest(1))
    assert override(machine, "00.0001") == "none\n"
    assert not machine.ledger.overrides


def test_a_foreign_device_that_holds_the_queue_delays_its_return(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1"))
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")
    machine.kernel.write(AP_MDEVS.create, mdev(9))
    machine.kernel.write(f"{AP_MDEVS.device(mdev(9))}/ap_config", a_matrix("0", "1").as_ap_config())
    outcome = release_guest(machine, guest(1))
    assert outcome.pending.overrides == {Apqn(0, 1): ""}
    machine.kernel.write(AP_MDEVS.remove(mdev(9)), "1")
    assert [step.op for step in reconcile_host(machine).steps] == ["return", "unbind", "probe"]


@pytest.mark.parametrize("prefer", ["", PREFER])
def test_a_queue_that_was_offline_comes_home_offline(machine: Machine, prefer: str) -> None:
    machine.files.texts[POLICY] = prefer
    machine.kernel.write("bus/ap/devices/00.0001/online", "0")
    start_guest(machine, a_request("0", "1-2"))
    assert machine.ledger.offline_queues == {Apqn(0, 1)}
    release_guest(machine, guest(1))
    assert machine.kernel.read("bus/ap/devices/00.0001/online") == "0\n"
    assert machine.kernel.read("bus/ap/devices/00.0002/online") == "1\n"
    assert not machine.ledger.offline_queues


def test_what_is_in_use_decides_not_what_is_preferred(machine: Machine) -> None:
    machine.kernel.write("bus/ap/apmask", "-5")
    assert start_guest(machine, a_request("0", "1")).freed_by != BY_OVERRIDES
    release_guest(machine, guest(1))
    machine.kernel.write("bus/ap/apmask", "+5")
    machine.files.texts[POLICY] = 'mechanism = "masks"\n'
    machine.kernel.write("bus/ap/devices/01.0001/driver_override", VFIO_DRIVER)
    assert start_guest(machine, a_request("0", "1")).freed_by == BY_OVERRIDES


@pytest.mark.parametrize("profile", ["6.1", "6.12"])
def test_a_kernel_without_overrides_uses_masks_whatever_is_preferred(profile: str) -> None:
    machine = Machine(SimKernel.new(profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    machine.files.texts[POLICY] = PREFER
    assert mechanism_of(machine.host, machine.ledger, Policy(mechanism=OVERRIDES)) == MASKS
    before = machine.host
    assert start_guest(machine, a_request("0", "1")).freed_by != BY_OVERRIDES
    release_guest(machine, guest(1))
    assert machine.host == before


def test_masks_that_a_boot_parameter_set_shut_the_overrides_only_when_written() -> None:
    """Hole of the kernel: with ap.apmask= both mechanisms are open; a mask write then says why not."""
    kernel = SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS, apmask="+0-9,+11-255")
    machine = Machine(kernel)
    kernel.write("bus/ap/devices/01.0001/driver_override", VFIO_DRIVER)
    before = machine.snapshot()[0]
    with pytest.raises(KernelRefusedError, match="a queue of this host has a driver_override"):
        start_guest(machine, a_request("0", "1"))
    assert machine.snapshot()[0] == before
    assert not machine.ledger.leases


def test_a_queue_that_vanished_with_its_override_is_forgotten(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1"))
    machine.kernel.unplug_adapter(0)
    release_guest(machine, guest(1))
    assert not machine.ledger.overrides
    assert not machine.ledger.leases


def kill() -> None:
    raise Killed


def fail() -> None:
    raise OSError(5, "injected")


VERBS: dict[str, Callable[[Machine], object]] = {
    "acquire": lambda machine: start_guest(machine, a_request("0-1", "1-2", 2)),
    "release": lambda machine: release_guest(machine, guest(1)),
}


@pytest.mark.parametrize("how", [kill, fail])
@pytest.mark.parametrize("verb", VERBS)
def test_after_a_fault_at_any_write_one_reconcile_repairs(verb: str, how: Callable[[], None]) -> None:
    points = 0
    while True:
        points += 1
        fresh = Machine()
        fresh.files.texts[POLICY] = PREFER
        fresh.kernel.write("bus/ap/devices/00.0001/online", "0")
        pristine = queues(fresh)
        if verb == "release":
            start_guest(fresh, a_request("0", "1-2"))
        fresh.faults.arm(points, how)
        try:
            VERBS[verb](fresh)
            break
        except (ApvfioError, OSError, Killed):
            pass
        fresh.faults.arm(0, kill)
        reconcile_host(fresh)
        assert {uuid: lease.matrix for uuid, lease in fresh.ledger.leases.items()} == fresh.host.mdevs
        assert set(fresh.host.overrides) == set(fresh.ledger.overrides)
        release_guest(fresh, guest(1))
        assert queues(fresh) == pristine
        assert (fresh.ledger.leases, fresh.ledger.overrides, fresh.ledger.offline_queues) == (
            {},
            {},
            frozenset(),
        )
        assert fresh.host.overrides == {}
    assert points > 6

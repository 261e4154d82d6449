# SPDX-License-Identifier: Apache-2.0
"""The broker on the simulated kernel: acquire, release, reconcile, and whatever can go wrong between."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from apvfio.engine import stop
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError
from apvfio.model.host import AP_MDEVS, Host, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.ledger import HELD
from apvfio.model.policy import Times
from apvfio.store.policy_file import POLICY
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine


@pytest.fixture
def machine() -> Machine:
    return Machine()


def bound(host: Host, driver: str) -> set[str]:
    return {str(queue) for queue, name in host.drivers.items() if name == driver}


def test_a_guest_gets_its_queues_and_returns_them(machine: Machine) -> None:
    before = machine.host
    start_guest(machine, a_request("0,0xa", "1,2,4"))
    assert machine.sysfs.written == [
        ("bus/ap/apmask", "-0,-10"),
        (AP_MDEVS.create, mdev(1)),
        (f"{AP_MDEVS.device(mdev(1))}/ap_config", a_matrix("0,10", "1,2,4").as_ap_config()),
    ]
    assert machine.host.mdevs == {mdev(1): a_matrix("0,10", "1,2,4")}
    assert bound(machine.host, "cex4queue") == {"01.0001", "01.0002", "01.0004", "01.001b"}
    assert machine.ledger.leases[mdev(1)].state == HELD

    machine.sysfs.written.clear()
    outcome = release_guest(machine, guest(1))
    assert machine.sysfs.written == [(AP_MDEVS.remove(mdev(1)), "1"), ("bus/ap/apmask", "+0,+10")]
    assert not outcome.pending.pending
    assert machine.host == before
    assert not machine.ledger.leases
    assert not machine.ledger.pending


def test_releasing_and_reconciling_what_is_not_held_writes_nothing(machine: Machine) -> None:
    release_guest(machine, guest(1))
    reconcile_host(machine)
    assert machine.sysfs.written == []
    assert machine.files.texts == {}


def test_acquiring_twice_is_acquiring_once(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1"))
    first = machine.snapshot()
    machine.sysfs.written.clear()
    start_guest(machine, a_request("0", "1"))
    assert machine.sysfs.written == []
    assert machine.snapshot() == first


def test_a_pending_return_waits_for_the_neighbour_that_needs_the_bit(machine: Machine) -> None:
    before = machine.host
    start_guest(machine, a_request("1", "1"))
    start_guest(machine, a_request("1", "2", 2))
    assert machine.ledger.pending == MaskBits(NO_IDS, IdSet([1, 2]))
    release_guest(machine, guest(1))
    assert machine.ledger.pending == MaskBits(NO_IDS, IdSet([2]))
    release_guest(machine, guest(2))
    assert machine.host == before


def test_bits_cleared_by_the_administrator_are_used_and_left_clear(machine: Machine) -> None:
    machine.kernel.write("bus/ap/apmask", "-0")
    before = machine.host
    start_guest(machine, a_request("0", "1-2"))
    assert not machine.ledger.pending
    release_guest(machine, guest(1))
    assert machine.host == before


def test_a_bit_that_the_administrator_returned_is_no_pending_return(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1"))
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")
    machine.kernel.write("bus/ap/aqmask", "+1")
    machine.kernel.write("bus/ap/aqmask", "-1")  # and cleared again: now it is his
    machine.kernel.write("bus/ap/aqmask", "+1")
    release_guest(machine, guest(1))
    assert machine.host.aqmask == ALL_IDS
    assert not machine.ledger.pending


def test_a_foreign_device_delays_the_return(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1-2,4"))
    machine.kernel.write(AP_MDEVS.create, mdev(9))
    machine.kernel.write(f"{AP_MDEVS.device(mdev(9))}/ap_config", a_matrix("0", "27").as_ap_config())
    outcome = release_guest(machine, guest(1))
    assert outcome.pending.pending == MaskBits(IdSet([0]), NO_IDS)
    assert machine.host.mdevs == {mdev(9): a_matrix("0", "27")}
    assert reconcile_host(machine).steps == []
    machine.kernel.write(AP_MDEVS.remove(mdev(9)), "1")
    assert [step.value for step in reconcile_host(machine).steps] == ["+0"]
    assert machine.host.apmask == ALL_IDS


def test_a_device_that_a_guest_still_has_open_is_not_pulled_away(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "read_times", lambda _: Times(release_wait=0))
    start_guest(machine, a_request("0", "1"))
    machine.kernel.attach_guest(mdev(1), "vm")
    before = machine.snapshot()
    with pytest.raises(ConflictError, match=r"guest g1: it still has 00\.0001 in use"):
        release_guest(machine, guest(1))
    assert machine.snapshot() == before
    machine.kernel.detach_guest(mdev(1))
    release_guest(machine, guest(1))
    assert machine.host.mdevs == {}


def test_an_unbound_queue_is_bound_on_the_way(machine: Machine) -> None:
    machine.kernel.write("bus/ap/drivers/cex4queue/unbind", "00.0001")
    start_guest(machine, a_request("0", "1"))
    assert "00.0001" in bound(machine.host, "vfio_ap")
    machine.kernel.write("bus/ap/drivers/vfio_ap/unbind", "00.0001")
    release_guest(machine, guest(1))
    assert bound(machine.host, "cex4queue") == {str(queue) for queue in machine.host.drivers}


def test_a_mask_mode_kernel_without_vfio_ap(machine: Machine) -> None:
    machine.kernel.unload("vfio_ap")
    before = machine.snapshot()
    with pytest.raises(HostError, match="modprobe vfio_ap"):
        start_guest(machine, a_request("0", "1"))
    assert machine.snapshot() == before


def test_a_reserved_queue_is_not_to_be_had(machine: Machine) -> None:
    machine.files.texts[POLICY] = '[reserve]\nqueues = ["01.001b"]\n'
    before = machine.snapshot()
    with pytest.raises(PolicyError, match=r"01\.001b is reserved"):
        start_guest(machine, a_request("1", "27"))
    assert machine.snapshot() == before
    start_guest(machine, a_request("1", "1"))
    assert "01.001b" in bound(machine.host, "cex4queue")


def test_a_host_without_the_ap_bus() -> None:
    class Empty:
        def exists(self, path: str) -> bool:
            return False

    machine = Machine()
    machine.sysfs = Empty()  # type: ignore[assignment]
    with pytest.raises(HostError, match="no AP bus"):
        start_guest(machine, a_request("0", "1"))


def held(machine: Machine) -> None:
    start_guest(machine, a_request("0,10", "1-2", 1))


VERBS: dict[str, tuple[Callable[[Machine], None], Callable[[Machine], object]]] = {
    "acquire": (lambda machine: None, lambda machine: start_guest(machine, a_request("1", "4", 2))),
    "acquire beside": (held, lambda machine: start_guest(machine, a_request("0", "4", 2))),
    "acquire again": (held, lambda machine: start_guest(machine, a_request("1", "4", 1))),
    "release": (held, lambda machine: release_guest(machine, guest(1))),
}


def writes_of(verb: str) -> int:
    before, run = VERBS[verb]
    machine = Machine()
    before(machine)
    machine.faults.arm(0, lambda: None)
    run(machine)
    return machine.faults.count


POINTS = [(verb, n) for verb in VERBS for n in range(1, writes_of(verb) + 1)]


def fail() -> None:
    raise OSError(errno.EIO, "injected")


def disk_or_kernel_error() -> None:
    raise HostError("injected.")


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("how", [fail, disk_or_kernel_error, kill])
@pytest.mark.parametrize(("verb", "n"), POINTS)
def test_after_a_fault_at_any_write_one_reconcile_makes_ledger_and_host_agree(
    verb: str, n: int, how: Callable[[], None]
) -> None:
    machine = Machine()
    pristine = machine.host
    before, run = VERBS[verb]
    before(machine)
    machine.faults.arm(n, how)
    with pytest.raises((ApvfioError, OSError, Killed)):
        run(machine)
    machine.faults.arm(0, how)
    reconcile_host(machine)
    ledger, host = machine.ledger, machine.host
    assert {lease.state for lease in ledger.leases.values()} <= {HELD}
    assert {uuid: lease.matrix for uuid, lease in ledger.leases.items()} == host.mdevs
    assert ledger.pending == MaskBits(ALL_IDS - host.apmask, ALL_IDS - host.aqmask)
    assert reconcile_host(machine).steps == []
    for lease in ledger.leases.values():
        assert all(host.drivers[queue] == "vfio_ap" for queue in lease.matrix.queues())
    for uuid in {lease.uuid for lease in ledger.leases.values()}:
        release_guest(machine, uuid)
    assert machine.host == pristine
    assert not machine.ledger.pending

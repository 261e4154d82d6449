# SPDX-License-Identifier: Apache-2.0
"""Nothing is taken from a guest while anything shows that it has its device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from errno import EIO
from unittest.mock import Mock

import pytest

from apvfio.engine.preview import preview_release
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError, ConflictError
from apvfio.model.ledger import ENDING, HELD
from apvfio.sim.kernel import SimKernel
from apvfio.sim.processes import Processes
from apvfio.sim.profile import PROFILES
from apvfio.store import stop_records
from apvfio.store.ledger_file import save
from apvfio.store.policy_file import POLICY
from apvfio.store.processes import GRACE, now
from hosts import IBM_DOMAINS, a_request, guest, mdev
from memory_host import IBM_ADAPTERS, Machine
from skipped_waits import skip_waits


def attach(processes: Processes) -> None:
    processes.open(processes.start().pid, mdev(1))


def open_device(processes: Processes) -> None:
    processes.open(processes.start().pid, mdev(1), kvm=False)


def linger(processes: Processes) -> None:
    """A zombie has the device open: no process can be named."""
    process = processes.start(guest(1))
    processes.open(process.pid, mdev(1), kvm=False)
    processes.linger(process.pid)


def run(processes: Processes) -> None:
    processes.start(guest(1))


SIGNS: dict[str, tuple[Callable[[Processes], object], str]] = {
    "in use": (attach, "it still has 00.0001 in use (process 1001)"),
    "open": (open_device, "its mediated device is open (process 1001)"),
    "zombie": (linger, "its mediated device is open"),
    "runs": (run, "it still runs (process 1001)"),
}


@pytest.fixture(params=PROFILES)
def machine(request: pytest.FixtureRequest) -> Machine:
    machine = Machine(SimKernel.new(request.param, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    machine.files.texts[POLICY] = "[time]\nrelease-wait = 1\n"
    machine.running = set()
    start_guest(machine, a_request("0", "1"))
    return machine


@pytest.fixture(params=SIGNS)
def says(request: pytest.FixtureRequest, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> str:
    """One sign of life, and what is said of it; no more time is left than that for a start."""
    sign, words = SIGNS[request.param]
    assert machine.processes
    sign(machine.processes)
    monkeypatch.setattr("apvfio.engine.lease_end.now", lambda: now() + GRACE + 1)
    skip_waits(monkeypatch)
    return words


def test_release_refuses_and_names_guest_and_process(machine: Machine, says: str) -> None:
    before = machine.snapshot()
    for refused in (preview_release, release_guest):
        with pytest.raises(ConflictError) as caught:
            refused(machine, guest(1))
        assert str(caught.value) == f"guest g1: {says}. Stop the guest first."
    assert machine.snapshot() == before
    outcome, _ = preview_release(machine, guest(1), force=True)
    assert outcome.steps
    with suppress(ApvfioError):  # 6.1 waits until a device that is open is closed
        release_guest(machine, guest(1), force=True)
        assert not machine.host.mdevs


def test_another_start_with_another_matrix_is_refused(machine: Machine, says: str) -> None:
    before = machine.snapshot()
    for request in (a_request("0", "1-2"), a_request("1", "1"), a_request("0", "1")._replace(mdev=mdev(9))):
        with pytest.raises(ConflictError) as caught:
            start_guest(machine, request)
        assert says in str(caught.value)
        assert machine.snapshot() == before
    # The same once more does no harm.
    assert start_guest(machine, a_request("0", "1")).state == HELD
    assert machine.host.mdevs.keys() == {mdev(1)}


def test_a_second_start_that_fails_takes_nothing(
    machine: Machine, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(EIO, "no")

    host = machine.host
    monkeypatch.setattr("apvfio.engine.start.verify_device", fails)
    with pytest.raises(ApvfioError):
        start_guest(machine, a_request("0", "1"))
    assert machine.host == host
    assert machine.ledger.leases[mdev(1)].state == HELD
    assert says


def test_reconcile_leaves_it_whatever_the_ledger_says(machine: Machine, says: str) -> None:
    host = machine.host
    stop_records.record(machine, guest(1))
    reconcile_host(machine)
    save(machine.files, machine.ledger.with_ending(guest(1)))
    assert machine.ledger.leases[mdev(1)].state == ENDING
    reconcile_host(machine)
    start_guest(machine, a_request("1", "4", 2))
    release_guest(machine, guest(2))
    assert machine.ledger.leases[mdev(1)].state == HELD
    assert machine.host == host
    assert says
    # Without the sign all goes home.
    assert machine.processes
    machine.processes.end(1001)
    reconcile_host(machine)
    assert not machine.ledger.leases


def test_without_any_sign_the_next_call_of_any_kind_returns_the_queues(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apvfio.engine.lease_end.now", lambda: now() + GRACE + 1)
    start_guest(machine, a_request("1", "4", 2))
    assert set(machine.ledger.leases) == {mdev(2)}


def test_of_many_leases_one_queue_each_is_looked_at_and_processes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(SimKernel.new("7.2", adapters=dict.fromkeys(range(16), "cca"), domains=IBM_DOMAINS))
    machine.running = {guest(n) for n in range(1, 15)}
    for n in range(1, 15):
        start_guest(machine, a_request(str(n), "1", n))
    looks = Mock(wraps=machine.running_guests)
    monkeypatch.setattr(machine, "running_guests", looks)
    monkeypatch.setattr("apvfio.engine.lease_end.now", lambda: now() + GRACE + 1)
    reconcile_host(machine)
    assert len(machine.ledger.leases) == 14
    assert looks.call_count <= 2

# SPDX-License-Identifier: Apache-2.0
"""A recorded stop is served by the next call of any kind, once, and no other life of the guest ends by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from apvfio.engine import live_change
from apvfio.engine.deferred import DIRECTORY
from apvfio.engine.edit_masks import change_masks
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest, stop_guest
from apvfio.libvirt import hook
from apvfio.model.errors import ApvfioError, ConflictError, Exit, HostError
from apvfio.model.ledger import HELD
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.process import Process
from apvfio.plan.mask_edit import MaskEdit
from apvfio.sim.kernel import SimKernel
from apvfio.store import stop_records
from apvfio.store.system import RealSystem
from hosts import a_request, guest, mdev
from memory_host import Killed, Machine
from skipped_waits import skip_waits

CALLS: dict[str, Callable[[Machine], object]] = {
    "start of another": lambda m: start_guest(m, a_request("1", "1", 2)),
    "start of the same": lambda m: start_guest(m, a_request("0", "1", 1)),
    "stop of another": lambda m: stop_guest(m, guest(2)),
    "release of another": lambda m: release_guest(m, guest(2)),
    "reconcile": reconcile_host,
    "hurried reconcile": lambda m: reconcile_host(m, hurry=True),
    "masks": lambda m: change_masks(m, MaskEdit(parse_mask_spec("-10"), None, True, False), lambda _: None),
    "live change of another": lambda m: live_change.commit(
        m, live_change.apply_change(m, a_request("1", "2", 3), Process(77, 1))
    ),
}


@pytest.fixture
def machine() -> Machine:
    """Guest 1 has stopped, which is recorded and nothing more; guest 3 holds other queues."""
    machine = Machine()
    start_guest(machine, a_request("1", "4", 3))
    start_guest(machine, a_request("0", "1", 1))
    stop_records.record(machine, guest(1))
    return machine


@pytest.mark.parametrize("call", CALLS)
def test_every_call_serves_it(machine: Machine, call: str) -> None:
    CALLS[call](machine)
    leases = [lease for lease in machine.ledger.leases.values() if lease.uuid == guest(1)]
    if call == "start of the same":
        assert [lease.state for lease in leases] == [HELD]
    elif call in ("masks", "live change of another"):
        # They end it, and leave what is slow to the next call.
        reconcile_host(machine)
    if call != "start of the same":
        assert mdev(1) not in machine.host.mdevs
        assert mdev(1) not in machine.ledger.leases
    assert stop_records.recorded(machine) == []


def test_a_life_that_began_later_does_not_end_by_it(machine: Machine) -> None:
    start_guest(machine, a_request("0", "1", 1))
    lease = machine.ledger.leases[mdev(1)]
    machine.files.texts[f"run/apvfio/stopped.{lease.since - 1}.{guest(1)}"] = ""
    assert len(stop_records.recorded(machine)) == 1
    reconcile_host(machine)
    assert machine.ledger.leases[mdev(1)] == lease
    assert stop_records.recorded(machine) == []


def test_a_stop_that_was_recorded_and_served_ends_no_later_life(machine: Machine) -> None:
    """The daemon dies when its hook has recorded the stop and done no more; a new one starts the guest."""
    start_guest(machine, a_request("0", "1", 1))
    lease = machine.ledger.leases[mdev(1)]
    assert stop_records.recorded(machine) == []
    stop_guest(machine, guest(1), recorded=True)
    assert machine.ledger.leases[mdev(1)] == lease
    assert mdev(1) in machine.host.mdevs


def test_a_record_that_cannot_be_removed_does_not_stand_for_a_later_stop(machine: Machine) -> None:
    """A directory in a record's place, for example."""
    start_guest(machine, a_request("0", "1", 1))
    old = f"run/apvfio/stopped.{machine.ledger.leases[mdev(1)].since - 1}.{guest(1)}"
    machine.files.texts[old] = ""
    stop_guest(machine, guest(1))
    assert mdev(1) not in machine.ledger.leases


def test_a_time_ahead_of_the_clock_is_of_no_stop_in_this_boot(machine: Machine) -> None:
    """Such a record, if it cannot be removed, must not keep later stops from ending what they end."""
    reconcile_host(machine)
    machine.files.texts[f"run/apvfio/stopped.{1 << 40}.{guest(1)}"] = ""
    assert stop_records.of_guest(machine, guest(1)) == []
    start_guest(machine, a_request("0", "1", 1))
    assert machine.ledger.leases[mdev(1)].since < 1 << 40
    stop_guest(machine, guest(1))
    assert mdev(1) not in machine.ledger.leases
    assert stop_records.recorded(machine) == []


@pytest.mark.parametrize("n", range(1, 12))
def test_it_is_kept_until_the_ledger_says_so(machine: Machine, n: int) -> None:
    process = machine.process()

    def die() -> NoReturn:
        raise Killed

    process.faults.arm(n, die)
    try:
        stop_guest(process, guest(1))
    except Killed:
        served = machine.ledger.leases.get(mdev(1))
        assert stop_records.recorded(machine) or served is None or served.state != HELD
    reconcile_host(machine)
    assert set(machine.ledger.leases) == {mdev(3)}
    assert stop_records.recorded(machine) == []


def test_a_stop_that_met_a_held_lock_is_served_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    before = machine.host
    machine.files.directories.add(DIRECTORY)
    start_guest(machine, a_request("0", "1", 1))
    xml = f"<domain><name>g1</name><uuid>{guest(1)}</uuid></domain>".encode()

    def held() -> NoReturn:
        raise ApvfioError("the lock was held.")

    with monkeypatch.context() as patched:
        patched.setattr(machine, "lock", held)
        assert hook.main(["g1", "release", "end", "-"], machine, xml) == Exit.OK
        # So does whoever watches, and leaves all as it is.
        with pytest.raises(ApvfioError):
            reconcile_host(machine)
    assert machine.files.list(DIRECTORY)
    assert machine.host.mdevs
    reconcile_host(machine)
    assert machine.files.list(DIRECTORY) == []
    assert machine.host == before
    assert not machine.ledger.leases


@pytest.mark.parametrize("hurry", [True, False])
def test_a_hurried_reconcile_that_met_a_held_lock_is_left_to_the_unit(
    hurry: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mdevctl's notifier calls it after a device was stopped, which is reported once."""
    machine = Machine()
    machine.files.directories.add(DIRECTORY)

    def held() -> NoReturn:
        raise ApvfioError("the lock was held.")

    monkeypatch.setattr(machine, "lock", held)
    with pytest.raises(ApvfioError, match="was held"):
        reconcile_host(machine, hurry=hurry)
    assert bool(machine.files.list(DIRECTORY)) is hurry


def test_evidence_counts_more_than_a_record(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another daemon's start of a guest that runs has failed, perhaps."""
    skip_waits(monkeypatch)
    machine.running = {guest(1), guest(3)}
    reconcile_host(machine)
    with pytest.raises(ConflictError, match="guest g1: it still runs"):
        stop_guest(machine, guest(1))
    assert machine.ledger.leases[mdev(1)].state == HELD
    assert len(stop_records.recorded(machine)) == 1
    machine.running = {guest(3)}
    reconcile_host(machine)
    assert set(machine.ledger.leases) == {mdev(3)}


def test_the_record_of_a_guest_that_holds_nothing_is_gone_at_once(machine: Machine) -> None:
    stop_records.record(machine, guest(5))
    stop_guest(machine, guest(5))
    assert stop_records.recorded(machine) == []


class TestFiles:
    """Records as files of a host."""

    @pytest.fixture
    def system(self, tmp_path: Path) -> RealSystem:
        system = RealSystem(str(tmp_path))
        system.sysfs = SimKernel.new()
        for directory in ("run/apvfio", "var/lib/apvfio"):
            (tmp_path / directory).mkdir(parents=True, mode=0o700)
        return system

    def test_elsewhere_if_run_takes_none(
        self, system: RealSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        create = system.files.create

        def full(path: str) -> bool:
            if path.startswith("run/"):
                raise HostError("no space.")
            return create(path)

        monkeypatch.setattr(system.files, "create", full)
        stop_records.record(system, guest(1))
        stop_records.record(system, guest(1))
        (record,) = (tmp_path / "var/lib/apvfio").iterdir()
        assert record.name.endswith(f".{guest(1)}.{system.boot_id}")
        assert [stop.uuid for stop in stop_records.of_guest(system, guest(1))] == [guest(1)]

    def test_the_record_of_another_boot_ends_nothing_and_goes(
        self, system: RealSystem, tmp_path: Path
    ) -> None:
        start_guest(system, a_request("0", "1", 1))
        old = tmp_path / f"var/lib/apvfio/stopped.99999999.{guest(1)}.{guest(9)}"
        old.touch()
        reconcile_host(system)
        assert not old.exists()
        assert len(read_leases(system)) == 1

    @pytest.mark.parametrize(
        "name",
        [
            "stopped.",
            "stopped.x",
            f"stopped..{guest(1)}",
            "stopped.1.x",
            f"stopped.-1.{guest(1)}",
            "stopped.٣.x",
        ],
    )
    def test_what_is_no_record_is_left_alone(self, system: RealSystem, name: str, tmp_path: Path) -> None:
        (tmp_path / "run/apvfio" / name).touch()
        assert stop_records.recorded(system) == []
        reconcile_host(system)
        assert (tmp_path / "run/apvfio" / name).exists()

    def test_a_lasting_directory_that_cannot_be_used_costs_no_start(
        self, system: RealSystem, tmp_path: Path
    ) -> None:
        (tmp_path / "var/lib/apvfio").chmod(0o777)
        start_guest(system, a_request("0", "1", 1))
        stop_guest(system, guest(1))
        assert read_leases(system) == {}

    def test_a_record_that_cannot_be_removed_does_no_harm(
        self, system: RealSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start_guest(system, a_request("0", "1", 1))
        stop_records.record(system, guest(1))

        def fails(path: str) -> NoReturn:
            raise HostError(f"{path} is read-only.")

        with monkeypatch.context() as patched:
            patched.setattr(system.files, "remove", fails)
            reconcile_host(system)
        assert read_leases(system) == {}
        reconcile_host(system)
        assert stop_records.recorded(system) == []


def read_leases(system: RealSystem) -> dict[str, object]:
    from apvfio.store.ledger_file import load

    return dict(load(system.files, system.boot_id).leases)

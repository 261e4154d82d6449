# SPDX-License-Identifier: Apache-2.0
"""Slow returns: predicted, paid in turns, left to the unit that watches for them."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from errno import EBUSY
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apvfio.engine import deferred
from apvfio.engine.bus_wait import wait_for_bus
from apvfio.engine.deferred import DIRECTORY, Pace, TimeBudget, defer_returns, finish_deferred
from apvfio.engine.differences import differences
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest, stop_guest
from apvfio.kernel.apply import apply_steps
from apvfio.libvirt import hook
from apvfio.model.errors import ConflictError, Exit, HostError
from apvfio.model.host import AP_MDEVS, MaskBits
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.ledger import HELD
from apvfio.plan.partial_return import limit_returns, returning_queues
from apvfio.plan.steps import pending_steps
from apvfio.sim.kernel import SimKernel
from apvfio.store.files import RealFiles
from apvfio.store.policy_file import POLICY
from domain_xml import domain
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Faults, FaultyFiles, Killed, Machine
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

UP = 5000


class Clock:
    """Time that passes only when somebody takes it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.meanwhile: Callable[[], None] = lambda: None
        """Called after each sleep."""

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


class SlowMachine(Machine):
    """A machine whose queues take ``reset`` seconds each on their way back, as seen on Linux 7.2.

    Removing a device resets its queues, all at once (vops:vfio_ap_mdev_remove); setting a mask
    bit those that move, one after the other.
    """

    def __init__(self, clock: Clock, reset: float, kernel: SimKernel | None = None) -> None:
        super().__init__(kernel)
        self.clock = clock
        self.reset = reset
        self.turns: list[float] = []
        """How long the lock was held, each time."""
        quick = self.sysfs.write

        def write(path: str, text: str) -> None:
            before = self.with_vfio_ap()
            quick(path, text)
            resets = len(before - self.with_vfio_ap()) or int(path.endswith("/remove"))
            self.clock.now += self.reset * resets

        self.sysfs.write = write  # type: ignore[method-assign]

    def with_vfio_ap(self) -> set[object]:
        return {queue for queue, driver in self.host.drivers.items() if driver == "vfio_ap"}

    @contextmanager
    def lock(self) -> Iterator[None]:
        begun = self.clock.now
        yield
        self.turns.append(round(self.clock.now - begun, 6))

    def watch(self) -> None:
        """Have somebody watch for what is handed over."""
        self.files.directories.add(DIRECTORY)

    @property
    def handed(self) -> list[str]:
        return self.files.list(DIRECTORY)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    monkeypatch.setattr("time.sleep", clock.sleep)
    monkeypatch.setattr("time.clock_gettime", lambda _: UP + clock.now)
    return clock


@pytest.fixture
def slow(clock: Clock) -> SlowMachine:
    """IBM's host, half a second a reset, and a guest with six queues that cost the host two more."""
    machine = SlowMachine(clock, 0.5)
    start_guest(machine, a_request("0,10", "1,2,4"))
    machine.sysfs.written.clear()
    machine.turns.clear()
    return machine


def returns(machine: Machine) -> list[tuple[str, str]]:
    return [(path, text) for path, text in machine.sysfs.written if path.endswith("mask")]


def test_within_the_budget_a_stop_writes_the_mask_itself_though_the_unit_watches(clock: Clock) -> None:
    machine = SlowMachine(clock, 0.03)
    before = machine.host
    machine.watch()
    machine.files.texts[POLICY] = "[time]\nrelease-budget = 1\n"
    start_guest(machine, a_request("0,10", "1,2,4"))
    machine.sysfs.written.clear()
    outcome = stop_guest(machine, guest(1))
    assert machine.sysfs.written == [(AP_MDEVS.remove(mdev(1)), "1"), ("bus/ap/apmask", "+0,+10")]
    assert (outcome.deferred, outcome.unfinished, machine.handed) == (False, False, [])
    assert machine.host == before


def test_a_slow_return_is_deferred_and_done_by_the_unit(slow: SlowMachine) -> None:
    slow.watch()
    outcome = stop_guest(slow, guest(1))
    assert outcome.deferred
    assert [step.op for step in outcome.steps] == ["remove"]
    assert slow.turns == [0.5]
    assert slow.handed == [f"{UP + 100}.{guest(1)}"]
    assert slow.host.mdevs == {}
    assert slow.ledger.leases == {}
    assert slow.ledger.pending == MaskBits(IdSet([0, 10]))

    outcome = reconcile_host(slow)
    assert slow.handed == []
    assert slow.host.apmask == ALL_IDS
    assert slow.ledger.pending == outcome.pending.pending == MaskBits()
    assert not outcome.unfinished


def test_nobody_watches_so_the_hook_does_it_itself_and_lets_others_in_between(slow: SlowMachine) -> None:
    outcome = stop_guest(slow, guest(1))
    assert not outcome.deferred
    assert returns(slow) == [("bus/ap/apmask", "+0"), ("bus/ap/apmask", "+10")]
    assert [step.value for step in outcome.steps] == ["1", "+0", "+10"]
    assert slow.turns == [2.5, 2.0]
    assert slow.host.apmask == ALL_IDS


@pytest.mark.parametrize(("budget", "handed"), [(0, True), (4, True), (5, False)])
def test_the_budget_is_the_policys(slow: SlowMachine, budget: int, handed: bool) -> None:
    """Half a second for the device, four for eight queues."""
    slow.watch()
    slow.files.texts[POLICY] = f"[time]\nrelease-budget = {budget}\n"
    assert stop_guest(slow, guest(1)).deferred is handed


def test_without_a_budget_the_device_is_removed_and_all_else_left_to_the_unit(slow: SlowMachine) -> None:
    slow.watch()
    slow.files.texts[POLICY] = "[time]\nrelease-budget = 0\n"
    outcome = stop_guest(slow, guest(1))
    assert ([step.op for step in outcome.steps], slow.turns) == (["remove"], [0.5])
    assert (slow.host.mdevs, slow.ledger.leases) == ({}, {})
    reconcile_host(slow)
    assert (slow.host.mdevs, slow.ledger.leases, slow.ledger.pending) == ({}, {}, MaskBits())
    assert stop_guest(slow, guest(1)).deferred is False
    assert slow.handed == []


@pytest.mark.parametrize("budget", [0, 2])
@pytest.mark.parametrize("requested", [("0,10", "1,2,4"), ("10", "1"), ("1", "4")])
def test_the_same_guest_starts_at_once_and_what_it_needs_is_not_returned(
    slow: SlowMachine, budget: int, requested: tuple[str, str]
) -> None:
    slow.watch()
    slow.files.texts[POLICY] = f"[time]\nrelease-budget = {budget}\n"
    stop_guest(slow, guest(1))
    slow.turns.clear()
    start_guest(slow, a_request(*requested))
    assert slow.turns[0] <= 0.5
    assert slow.host.mdevs == {mdev(1): a_matrix(*requested)}
    assert slow.ledger.leases[mdev(1)].state == HELD
    if requested == ("0,10", "1,2,4"):
        assert returns(slow) == []

    reconcile_host(slow)
    assert slow.host.mdevs == {mdev(1): a_matrix(*requested)}
    assert slow.ledger.pending == MaskBits(ALL_IDS - slow.host.apmask, ALL_IDS - slow.host.aqmask)
    assert not reconcile_host(slow).steps
    slow.files.texts[POLICY] = "[time]\nrelease-budget = 60\n"
    stop_guest(slow, guest(1))
    assert slow.host.apmask == slow.host.aqmask == ALL_IDS


def test_another_guest_starts_beside_pending_returns_and_does_not_wait_for_them(slow: SlowMachine) -> None:
    slow.watch()
    stop_guest(slow, guest(1))
    finish_deferred(slow.files, slow.files.list(DIRECTORY))
    slow.turns.clear()
    start_guest(slow, a_request("1", "1", 2))
    assert slow.turns == [0]
    assert slow.ledger.pending.apmask >= IdSet([0, 10])
    assert slow.handed == [f"{UP + 100}.{guest(2)}"]
    reconcile_host(slow)
    assert slow.ledger.pending == slow.ledger.needed_bits()


def test_a_start_that_fails_does_not_wait_for_what_it_gives_back(clock: Clock) -> None:
    machine = SlowMachine(clock, 0.5)
    machine.watch()

    def fail() -> None:
        raise HostError("injected.")

    machine.faults.arm(4, fail)  # ledger, mask, create
    with pytest.raises(HostError, match="guest g1: injected"):
        start_guest(machine, a_request("0,10", "1,2,4"))
    machine.faults.arm(0, fail)
    assert machine.clock.now == 100.5
    assert len(machine.handed) == 1
    reconcile_host(machine)
    assert machine.host.apmask == ALL_IDS
    assert machine.ledger.leases == {}


def test_much_is_returned_in_turns_and_a_guest_starts_between_two_of_them(clock: Clock) -> None:
    kernel = SimKernel.new(adapters=dict.fromkeys(range(8), "cca"), domains=IdSet(range(16)))
    machine = SlowMachine(clock, 0.2, kernel)
    start_guest(machine, a_request("0-6", "0-15"))
    machine.files.texts[POLICY] = "[time]\nrelease-budget = 0\n"
    machine.watch()
    stop_guest(machine, guest(1))
    machine.turns.clear()
    machine.sysfs.written.clear()

    def start_another() -> None:
        if len(machine.turns) == 3:
            start_guest(machine, a_request("5", "0-15", 2))

    clock.meanwhile = start_another
    outcome = reconcile_host(machine)
    # The first adapter, two adapters, a start, three adapters.
    assert machine.turns == [3.2, 3.2, 3.2, 0, 3.2, 3.2, 3.2]
    assert [text for _, text in returns(machine)] == ["+0", "+1", "+2", "+3", "+4", "+6"]
    assert outcome.ledger.pending == machine.ledger.pending == MaskBits(IdSet([5]))
    assert not outcome.unfinished
    assert machine.host.mdevs == {mdev(2): a_matrix("5", "0-15")}


def test_a_kernel_that_takes_nothing_back_ends_the_turns(slow: SlowMachine) -> None:
    """EBUSY is no error: an mdev made meanwhile holds the id. But it must not be tried for ever."""
    write = slow.sysfs.write

    def refuse(path: str, text: str) -> None:
        if path == "bus/ap/apmask":
            slow.sysfs.written.append((path, text))
            raise OSError(EBUSY, "busy")
        write(path, text)

    slow.sysfs.write = refuse  # type: ignore[method-assign]
    outcome = release_guest(slow, guest(1))
    assert outcome.pending.pending == MaskBits(IdSet([0, 10]))
    assert len(returns(slow)) <= 3


def test_overrides_are_returned_in_turns_too(clock: Clock) -> None:
    machine = SlowMachine(clock, 1.0)
    switch_mechanism(machine, "overrides")
    start_guest(machine, a_request("0,10", "1,2,4"))
    machine.turns.clear()
    machine.watch()
    assert stop_guest(machine, guest(1)).deferred
    assert machine.turns == [1.0]
    assert len(machine.ledger.overrides) == 6
    reconcile_host(machine)
    assert machine.turns == [1.0, 6.0]
    assert (machine.ledger.overrides, machine.host.overrides) == ({}, {})

    start_guest(machine, a_request("0,10", "1,2,4"))
    machine.turns.clear()
    release_guest(machine, guest(1))
    assert machine.turns == [3.0, 2.0, 2.0]
    assert machine.host.overrides == {}


def test_the_hook_is_in_a_hurry_and_the_command_is_not(slow: SlowMachine) -> None:
    slow.watch()
    xml = domain(uuid=guest(1))
    assert hook.main(["g1", "release", "end", "-"], slow, xml) == Exit.OK
    assert len(slow.handed) == 1
    finish_deferred(slow.files, slow.files.list(DIRECTORY))
    assert hook.main(["g1", "reconnect", "begin", "-"], slow, xml) == Exit.OK
    assert slow.handed == [f"{UP + 100}.reconcile"]
    assert slow.ledger.pending == MaskBits(IdSet([0, 10]))


def test_a_crash_after_the_device_is_gone_leaves_the_pending_returns_in_the_ledger(slow: SlowMachine) -> None:
    slow.watch()

    def kill() -> None:
        raise Killed

    for n in range(1, 6):
        slow.faults.arm(n, kill)
        try:
            stop_guest(slow, guest(1))
        except Killed:
            continue
        break
    slow.faults.arm(0, kill)
    assert slow.ledger.pending == MaskBits(IdSet([0, 10]))
    reconcile_host(slow)
    assert slow.host.apmask == ALL_IDS


class TestDirectory:
    """The directory that the path unit watches."""

    def test_there_is_one_only_while_somebody_watches(self, tmp_path: Path) -> None:
        files = RealFiles(str(tmp_path))
        assert not defer_returns(files, guest(1))
        assert list(tmp_path.iterdir()) == []
        (tmp_path / DIRECTORY).mkdir(parents=True)
        assert defer_returns(files, guest(1))
        (made,) = (tmp_path / DIRECTORY).iterdir()
        assert (made.stat().st_mode & 0o777, made.stat().st_size) == (0o600, 0)
        assert made.name.partition(".")[2] == guest(1)
        finish_deferred(files, files.list(DIRECTORY))
        assert list((tmp_path / DIRECTORY).iterdir()) == []

    def test_what_lies_there_for_long_shows_that_nobody_does(self, clock: Clock) -> None:
        files = FaultyFiles(Faults())
        files.directories.add(DIRECTORY)
        assert defer_returns(files, guest(1))
        clock.sleep(599)
        assert defer_returns(files, guest(2))
        clock.sleep(2)
        assert not defer_returns(files, guest(3))
        assert len(files.texts) == 2
        finish_deferred(files, files.list(DIRECTORY))
        assert defer_returns(files, guest(3))

    def test_what_is_no_directory_is_no_watcher(self, tmp_path: Path) -> None:
        (tmp_path / DIRECTORY).parent.mkdir(parents=True)
        (tmp_path / DIRECTORY).write_text("")
        assert not defer_returns(RealFiles(str(tmp_path)), guest(1))

    def test_a_link_put_there_is_not_followed(self, tmp_path: Path, clock: Clock) -> None:
        (tmp_path / DIRECTORY).mkdir(parents=True)
        (tmp_path / DIRECTORY / f"{UP + 100}.{guest(1)}").symlink_to(tmp_path / "elsewhere")
        assert not defer_returns(RealFiles(str(tmp_path)), guest(1))
        assert not (tmp_path / "elsewhere").exists()

    def test_a_foreign_name_there_does_no_harm(self, clock: Clock) -> None:
        files = FaultyFiles(Faults())
        files.directories.add(DIRECTORY)
        files.texts[f"{DIRECTORY}/note"] = ""
        assert not defer_returns(files, guest(1))
        finish_deferred(files, files.list(DIRECTORY))
        assert files.texts == {}

    def test_a_simulated_host_has_one_too(self, tmp_path: Path) -> None:
        host = SimulatedHost(tmp_path)
        with host.opened() as system:
            assert not defer_returns(system.files, guest(1))
            system.tree.add({f"{DIRECTORY}/": {"mode": "0700"}})
            assert defer_returns(system.files, guest(1))
            assert len(system.files.list(DIRECTORY)) == 1


class TestPace:
    """How much at a time."""

    def test_nothing_known_nothing_promised(self, clock: Clock) -> None:
        files = FaultyFiles(Faults())
        files.directories.add(DIRECTORY)
        pace = Pace()
        assert pace.portion == deferred._FIRST
        assert TimeBudget(files, guest(1), 60).defers(pace.seconds)

    @pytest.mark.parametrize(
        ("queues", "seconds", "portion"), [(1, 0.001, 66), (8, 8.0, 2), (1, 5.0, 1), (32, 6.4, 10)]
    )
    def test_as_measured(self, queues: int, seconds: float, portion: int) -> None:
        pace = Pace()
        pace.measured(queues, seconds)
        pace.measured(0, 99)
        assert pace.portion == portion


@settings(deadline=None)
@example(taken=[("0", "1"), ("10", "2"), ("0", "2"), ("0-1", "4,27")], most=3, profile="6.12")
@given(
    taken=st.lists(
        st.tuples(st.sampled_from(["0", "1", "10", "0-1"]), st.sampled_from(["1", "2", "4,27"])), max_size=4
    ),
    most=st.integers(0, 12),
    profile=st.sampled_from(["6.12", "7.2"]),
)
def test_portions_add_up_to_the_whole(taken: list[tuple[str, str]], most: int, profile: str) -> None:
    machine = Machine(SimKernel.new(profile, adapters={0: "cca", 1: "cca", 10: "ep11"}))
    for n, (adapters, domains) in enumerate(taken, 1):
        with suppress(ConflictError):  # held by one before it
            start_guest(machine, a_request(adapters, domains, n))
    ledger = machine.ledger
    for lease in list(ledger.leases.values())[::2]:
        ledger = ledger.with_ending(lease.uuid)
    apply_steps(machine.sysfs, [step for step in pending_steps(ledger, machine.host) if step.op == "remove"])
    whole = len(returning_queues(ledger, machine.host))

    def home() -> int:
        return sum(1 for driver in machine.host.drivers.values() if driver == "cex4queue")

    at_first = home()
    # With 0, not even a bit is returned whose return moves no queue.
    all_at_once = limit_returns(ledger, machine.host, max(1, whole))
    assert pending_steps(all_at_once, machine.host) == pending_steps(ledger, machine.host)
    assert not any(
        step.op == "return" for step in pending_steps(limit_returns(ledger, machine.host, 0), machine.host)
    )
    while most and (steps := pending_steps(limit_returns(ledger, machine.host, most), machine.host)):
        before, expected = (
            home(),
            len(returning_queues(limit_returns(ledger, machine.host, most), machine.host)),
        )
        bits = sum(step.value.count("+") for step in steps)
        apply_steps(machine.sysfs, steps)
        assert home() - before == expected
        assert expected <= most or bits == 1 or not expected
        assert (home() - at_first == whole) is (pending_steps(ledger, machine.host) == [])
    if most:
        assert home() - at_first == whole
        assert pending_steps(ledger, machine.host) == []


def test_reconcile_waits_for_the_bus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    assert host.run("reconcile", "--wait", "5", "--json") == Exit.OK
    out, err = capsys.readouterr()
    assert (json.loads(out)["deferred"], err) == (False, "")
    host.write("sys/bus/ap/drivers/cex4queue/unbind", "00.0001")
    assert host.run("reconcile", "--wait", "0") == Exit.OK
    assert capsys.readouterr().err == "11/12 queues have a driver\n"
    assert host.run("reconcile", "--wait", "601") == Exit.USAGE
    assert "'601' is not a whole number from 0 to 600" in capsys.readouterr().err


def test_a_host_without_the_bus_is_no_failure_of_the_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = SimulatedHost(tmp_path)
    with host.opened() as system:
        for module in ("vfio_ap", "zcrypt_cex4", "zcrypt", "ap"):
            system.kernel.unload(module)
    assert host.run("reconcile", "--wait", "5") == Exit.OK
    assert capsys.readouterr() == ("", "this host has no AP bus: nothing to do\n")
    assert host.run("reconcile") == Exit.HOST


class TestBus:
    """The wait for the bus."""

    def test_it_ends_when_the_last_queue_is_bound(self, clock: Clock) -> None:
        kernel = SimKernel.new()
        kernel.write("bus/ap/drivers/cex4queue/unbind", "00.0001")

        def bind() -> None:
            if clock.now > 100.5:
                kernel.write("bus/ap/drivers_probe", "00.0001")

        clock.meanwhile = bind
        assert wait_for_bus(kernel, 9) == "12/12 (complete)"
        assert 100.5 < clock.now < 100.8

    def test_a_queue_that_nobody_shall_drive_is_not_waited_for(self, clock: Clock) -> None:
        kernel = SimKernel.new()
        kernel.write("bus/ap/drivers/cex4queue/unbind", "00.0001")
        assert wait_for_bus(kernel, 9) == "11/12"
        assert 101 <= clock.now < 101.3
        assert wait_for_bus(kernel, 0) == "11/12"

    def test_the_hosts_driver_may_come_late_or_never(self, clock: Clock) -> None:
        kernel = SimKernel.new()
        kernel.unload("zcrypt_cex4")
        assert wait_for_bus(kernel, 5) == "0/12"
        assert 105 <= clock.now < 105.2

        def load() -> None:
            if clock.now > 107:
                kernel.load("zcrypt_cex4")

        clock.meanwhile = load
        assert wait_for_bus(kernel, 5) == "12/12 (complete)"
        assert 107 < clock.now < 107.3

    def test_there_may_be_no_card_at_all(self) -> None:
        assert wait_for_bus(SimKernel.new(adapters={}), 5) == "0/0 (complete)"


def test_the_command_says_that_it_left_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    host.start(a_request("0", "1"))
    with host.opened() as system:
        system.tree.add({f"{DIRECTORY}/": {"mode": "0700"}})
        system.sysfs.write(AP_MDEVS.remove(mdev(1)), "1")
    assert host.run("reconcile", "--defer") == Exit.OK
    assert "the rest is left to apvfio-reconcile.service\n" in capsys.readouterr().out
    assert host.run("reconcile") == Exit.OK
    assert "+1 > /sys/bus/ap/aqmask" in capsys.readouterr().out


def test_what_the_unit_is_about_to_return_is_no_difference(slow: SlowMachine) -> None:
    slow.watch()
    stop_guest(slow, guest(1))
    ledger = slow.ledger
    assert ledger.pending
    assert differences(slow, slow.host, ledger) == []
    assert reconcile_host(slow).seen == ()


def test_what_nobody_has_taken_up_is_a_difference(slow: SlowMachine) -> None:
    slow.watch()
    stop_guest(slow, guest(1))
    slow.clock.now += 601
    (found,) = differences(slow, slow.host, slow.ledger)
    assert found.startswith("apmask 0,10 (00, 0a) is a pending return")

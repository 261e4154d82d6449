# SPDX-License-Identifier: Apache-2.0
"""Guests that hold queues and do not run any more, though libvirt never said so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from apvfio import broker, hook
from apvfio.errors import ApvfioError, ConflictError
from apvfio.handover import DIRECTORY
from apvfio.ledger import ENDING, STARTING
from apvfio.liveness import GRACE, abandoned, now, running_guests
from hosts import a_lease, a_ledger, a_request, guest, mdev
from machines import Machine


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the time pass that a guest has until it runs."""
    return lambda: monkeypatch.setattr("apvfio.settle.now", lambda: now() + GRACE + 1)


def test_a_guest_has_some_time_until_it_runs() -> None:
    ledger = a_ledger(a_lease("0", "1")._replace(since=1000))
    assert abandoned(ledger, [], 1000 + GRACE - 1) == []
    assert abandoned(ledger, [], 1000 + GRACE) == list(ledger.leases.values())
    assert abandoned(ledger, [guest(1)], 1000 + GRACE) == []


@pytest.mark.parametrize("state", [STARTING, ENDING])
def test_only_held_leases_count(state: str) -> None:
    assert abandoned(a_ledger(a_lease("0", "1", state=state)), [], 10**6) == []


def test_qemu_tells_its_guest(tmp_path: Path) -> None:
    commands = {
        "10": ["/usr/bin/qemu-system-s390x", "-name", "guest=a", "-uuid", guest(1).upper(), "-m", "64"],
        "11": ["grep", "-uuid"],
        "12": ["sh", "-c", f"echo -uuid {guest(2)}"],
        "self": ["qemu", "-uuid", guest(3)],
    }
    for pid, words in commands.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (tmp_path / "13").mkdir()
    assert guest(1) in running_guests(str(tmp_path))
    assert not {guest(2), guest(3)} & running_guests(str(tmp_path))


def test_reconcile_takes_home_what_nobody_uses(later: Callable[[], None]) -> None:
    machine = Machine()
    before = machine.host
    broker.acquire(machine, a_request("0", "1", 1))
    broker.acquire(machine, a_request("1", "1", 2))
    assert machine.ledger.leases[mdev(1)].since == pytest.approx(now(), abs=60)
    machine.running = {guest(2)}
    assert not broker.reconcile(machine).steps
    later()
    assert broker.reconcile(machine).steps
    assert set(machine.ledger.leases) == {mdev(2)}
    broker.release(machine, guest(2))
    assert machine.host == before


def test_where_nobody_can_tell_nothing_is_taken(later: Callable[[], None]) -> None:
    machine = Machine()
    broker.acquire(machine, a_request("0", "1"))
    later()
    assert machine.running is None
    assert not broker.reconcile(machine).steps


def test_the_dead_are_in_nobodys_way(later: Callable[[], None]) -> None:
    machine = Machine()
    machine.running = {guest(1)}
    broker.acquire(machine, a_request("0", "1", 1))
    later()
    with pytest.raises(ConflictError, match="held by guest g1"):
        broker.acquire(machine, a_request("0", "1-2", 2))
    machine.running = set()
    broker.acquire(machine, a_request("0", "1-2", 2))
    assert set(machine.host.mdevs) == set(machine.ledger.leases) == {mdev(2)}


def test_who_is_known_to_have_stopped_is_not_waited_for() -> None:
    ledger = a_ledger(a_lease("0", "1", 1)._replace(since=1000), a_lease("1", "1", 2)._replace(since=1003))
    stopped = {guest(1): 1002, guest(2): 1002}
    (left,) = abandoned(ledger, [], 1004, stopped)
    # The second has been started again since.
    assert left.uuid == guest(1)
    assert abandoned(ledger, [guest(1)], 1004, stopped) == []


def test_a_stop_that_met_a_held_lock_is_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    before = machine.host
    machine.running = {guest(1)}
    machine.files.directories.add(DIRECTORY)
    broker.acquire(machine, a_request("0", "1", 1))
    machine.running = set()
    xml = f"<domain><name>g1</name><uuid>{guest(1)}</uuid></domain>".encode()

    def held() -> NoReturn:
        raise ApvfioError("the lock was held.")

    with monkeypatch.context() as patched:
        patched.setattr(machine, "lock", held)
        assert hook.main(["g1", "release", "end", "-"], machine, xml) == 0
    assert machine.host.mdevs
    broker.reconcile(machine)
    assert machine.host == before
    assert not machine.ledger.leases
    assert machine.files.list(DIRECTORY) == []

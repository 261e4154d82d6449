# SPDX-License-Identifier: Apache-2.0
"""Guests that hold queues and do not run any more, though libvirt never said so."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from apvfio.engine.deferred import DIRECTORY
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.libvirt import hook
from apvfio.model.errors import ApvfioError, ConflictError
from apvfio.model.ledger import ENDING, STARTING
from apvfio.model.process import Process
from apvfio.store.processes import GRACE, now, running_guests, should_run
from hosts import a_lease, a_request, guest, mdev
from memory_host import Machine


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the time pass that a guest has until it runs."""
    return lambda: monkeypatch.setattr("apvfio.engine.lease_end.now", lambda: now() + GRACE + 1)


def test_a_guest_has_some_time_until_it_runs() -> None:
    lease = a_lease("0", "1")._replace(since=1000)
    assert not should_run(lease, 1000 + GRACE - 1)
    assert should_run(lease, 1000 + GRACE)


@pytest.mark.parametrize("state", [STARTING, ENDING])
def test_only_held_leases_count(state: str) -> None:
    assert not should_run(a_lease("0", "1", state=state), 10**6)


def a_process(
    proc: Path, pid: int, executable: Path, words: list[str], uids: tuple[int, int] = (0, 0)
) -> None:
    """A process as /proc shows it, of the real and the effective user ``uids``."""
    place = proc / str(pid)
    place.mkdir(parents=True)
    place.joinpath("cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    place.joinpath("exe").symlink_to(executable)
    place.joinpath("stat").write_text(f"{pid} (CPU 0/KVM) S 1 " + " ".join("0" * 17) + " 77 0\n")
    real, effective = uids
    place.joinpath("status").write_text(
        f"Name:\tUid: 0\nUid:\t{real}\t{effective}\t{effective}\t{effective}\n"
    )
    os.chown(place, effective, effective)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files and processes of other users")
def test_only_a_qemu_of_the_systems_own_tells_its_guest(tmp_path: Path) -> None:
    proc, qemu, other = tmp_path / "proc", tmp_path / "qemu-system-s390x", tmp_path / "sh"
    private = tmp_path / "private" / "qemu-system-s390x"
    private.parent.mkdir()
    helper = tmp_path / "qemu-bridge-helper"
    for program in (qemu, other, private, helper):
        program.touch()
    os.chown(private, 1000, 1000)
    a_process(proc, 10, qemu, ["qemu", "-name", "guest=a", "-uuid", guest(1).upper(), "-m", "64"])
    a_process(proc, 11, qemu, ["qemu", "-uuid"])
    a_process(proc, 12, other, ["sh", "-c", "sleep 1000; :", "x", "-uuid", guest(2)])
    a_process(proc, 14, private, ["qemu", "-uuid", guest(4)])
    a_process(proc, 15, qemu, ["qemu", "-uuid", guest(5)], (1000, 1000))
    # As Debian's libvirt runs its guests.
    a_process(proc, 16, qemu, ["qemu", "-uuid", guest(6)], (64055, 64055))
    # A setuid helper of QEMU's, which its user stops or keeps waiting with a full pipe.
    a_process(proc, 17, helper, ["qemu-bridge-helper", "-uuid", guest(7)], (1000, 0))
    a_process(proc / "self", 3, qemu, ["qemu", "-uuid", guest(3)])
    (proc / "13").mkdir()
    assert running_guests(str(proc)) == {guest(1): Process(10, 77), guest(6): Process(16, 77)}


def test_reconcile_returns_what_nobody_uses(later: Callable[[], None]) -> None:
    machine = Machine()
    before = machine.host
    start_guest(machine, a_request("0", "1", 1))
    start_guest(machine, a_request("1", "1", 2))
    assert machine.ledger.leases[mdev(1)].since == pytest.approx(now(), abs=60)
    machine.running = {guest(2)}
    assert not reconcile_host(machine).steps
    later()
    assert reconcile_host(machine).steps
    assert set(machine.ledger.leases) == {mdev(2)}
    machine.running = set()
    release_guest(machine, guest(2))
    assert machine.host == before


def test_where_nobody_can_tell_nothing_is_taken(later: Callable[[], None]) -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1"))
    later()
    assert machine.running is None
    assert not reconcile_host(machine).steps


def test_the_dead_are_in_nobodys_way(later: Callable[[], None]) -> None:
    machine = Machine()
    machine.running = {guest(1)}
    start_guest(machine, a_request("0", "1", 1))
    later()
    with pytest.raises(ConflictError, match="held by guest g1"):
        start_guest(machine, a_request("0", "1-2", 2))
    machine.running = set()
    start_guest(machine, a_request("0", "1-2", 2))
    assert set(machine.host.mdevs) == set(machine.ledger.leases) == {mdev(2)}


def test_a_stop_that_met_a_held_lock_is_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    before = machine.host
    machine.running = {guest(1)}
    machine.files.directories.add(DIRECTORY)
    start_guest(machine, a_request("0", "1", 1))
    machine.running = set()
    xml = f"<domain><name>g1</name><uuid>{guest(1)}</uuid></domain>".encode()

    def held() -> NoReturn:
        raise ApvfioError("the lock was held.")

    with monkeypatch.context() as patched:
        patched.setattr(machine, "lock", held)
        assert hook.main(["g1", "release", "end", "-"], machine, xml) == 0
    assert machine.host.mdevs
    reconcile_host(machine)
    assert machine.host == before
    assert not machine.ledger.leases
    assert machine.files.list(DIRECTORY) == []

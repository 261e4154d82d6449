# SPDX-License-Identifier: Apache-2.0
"""What is waited for: who says it, and the one line on a terminal that shows it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from operator import methodcaller
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.bus_wait import wait_for_bus
from apvfio.engine.edit_masks import change_masks
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ConflictError
from apvfio.model.host import OVERRIDES
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.progress import FOR_THE_LOCK
from apvfio.plan.mask_edit import MaskEdit
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from apvfio.store.locks import OWN_LOCK
from hosts import a_request, guest, mdev
from skipped_waits import skip_waits
from terminals import terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOCK = [FOR_THE_LOCK, ""]
RESET = "waiting for 6 queues to finish the reset: 00.0001, 00.0002 and 4 more"


@pytest.fixture
def held() -> SimSystem:
    system = SimSystem.new(SimKernel.new())
    start_guest(system, a_request("0,10", "1,2,4"))
    return system


def test_a_release_tells_of_the_resets(held: SimSystem) -> None:
    said: list[str] = []
    release_guest(held, guest(1), progress=said.append)
    away = "waiting for 8 queues to finish the reset: 00.0001, 00.0002 and 6 more"
    assert said == [*LOCK, RESET, away]


def test_a_release_tells_of_the_guest_that_does_not_let_go(
    held: SimSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_waits(monkeypatch)
    held.kernel.attach_guest(mdev(1), "g1")
    held.files.write("etc/apvfio/apvfio.toml", "[time]\nrelease-wait = 1\n")
    said: list[str] = []
    with pytest.raises(ConflictError):
        release_guest(held, guest(1), progress=said.append)
    asked = "waiting for guest g1 to release its mediated device"
    assert set(said[2:]) == {asked}


def test_a_reconcile_that_has_nothing_to_do_waits_for_nothing(held: SimSystem) -> None:
    said: list[str] = []
    reconcile_host(held, progress=said.append)
    assert said == LOCK


def test_masks_and_mode_tell_which_queues_move() -> None:
    system = SimSystem.new(SimKernel.new())
    said: list[str] = []
    requested = MaskEdit(parse_mask_spec("-0"), None, active=True, persistent=False)
    change_masks(system, requested, lambda _: said.append("announced"), said.append)
    moved = "waiting for 4 queues to finish the reset: 00.0001, 00.0002 and 2 more"
    assert said == [*LOCK, "announced", moved]
    said.clear()
    switch_mechanism(system, OVERRIDES, progress=said.append)
    assert said == [*LOCK, moved]


def test_the_bus_tells_how_far_it_is() -> None:
    said: list[str] = []
    wait_for_bus(SimKernel.new(), 5, said.append)
    assert said == ["waiting for the AP bus to find its queues, and drivers for them: 12/12 (complete)"]


@pytest.fixture
def locked(tmp_path: Path) -> int:
    """A host's tree whose lock somebody holds."""
    directory = tmp_path / "run" / "apvfio"
    directory.mkdir(parents=True, mode=0o700)
    fd = os.open(tmp_path / OWN_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_terminal_shows_one_line_and_then_none(tmp_path: Path, locked: int) -> None:
    with terminal("--root", str(tmp_path), "reconcile", columns=200) as shown:
        assert shown.settle(0.5) == ""
        for seconds in (1, 2):
            line = shown.until(methodcaller("endswith", f"({seconds} s)"))
            assert line == f"{FOR_THE_LOCK} ({seconds} s)"
        fcntl.flock(locked, fcntl.LOCK_UN)
        assert shown.end() == 5
        assert str(shown.screen).startswith("apvfio: this host has no AP bus")


def test_a_narrow_terminal_shows_as_much_as_fits(tmp_path: Path, locked: int) -> None:
    with terminal("--root", str(tmp_path), "reconcile", columns=30) as shown:
        assert shown.until(lambda screen: "(1 s)" in screen) == "waiting for another ap… (1 s)"


def test_a_dumb_terminal_shows_nothing(tmp_path: Path, locked: int) -> None:
    with terminal("--root", str(tmp_path), "reconcile", TERM="dumb") as shown:
        assert shown.settle(1.5) == ""


def test_ctrl_c_leaves_no_line(tmp_path: Path, locked: int) -> None:
    with terminal("--root", str(tmp_path), "reconcile") as shown:
        shown.until(lambda screen: "(1 s)" in screen)
        shown.type("\x03")
        assert shown.end() == 130
        assert "waiting" not in str(shown.screen)


def test_a_terminal_that_is_stopped_does_not_stop_the_work(tmp_path: Path, locked: int) -> None:
    with terminal("--root", str(tmp_path), "reconcile", columns=200) as shown:
        shown.until(lambda screen: "(1 s)" in screen)
        shown.type("\x13")  # Ctrl-S
        before = shown.settle(1.5)
        fcntl.flock(locked, fcntl.LOCK_UN)
        taken = _eventually(lambda: os.pread(locked, 20, 0).split() == [str(shown.pid).encode()])
        given = _eventually(lambda: _lock(locked))
        assert (taken, given, shown.settle(0.5)) == (True, True, "")
        shown.type("\x11")  # Ctrl-Q
        assert shown.end() == 5
        assert str(shown.screen).startswith("apvfio: this host has no AP bus"), before


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _eventually(so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_elsewhere_there_is_nothing(tmp_path: Path, locked: int) -> None:
    command = [sys.executable, "-m", "apvfio", "--root", str(tmp_path), "reconcile"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        fcntl.flock(locked, fcntl.LOCK_UN)
        assert process.stderr
        assert process.stderr.read().startswith("apvfio: this host has no AP bus")

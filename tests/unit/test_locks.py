# SPDX-License-Identifier: Apache-2.0
"""The two locks: waiting, naming the holder, stale locks, s390-tools' protocol."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from apvfio import locks
from apvfio.errors import ApvfioError, HostError

if TYPE_CHECKING:
    from pathlib import Path

GONE = 4_000_000  # beyond pid_max's default on any machine that runs this


@pytest.fixture
def s390(tmp_path: Path) -> str:
    return str(tmp_path / "run/lock/s390apconfig.lock")


def test_both_locks_are_held_inside_and_free_after(tmp_path: Path) -> None:
    with locks.holding_locks(str(tmp_path)):
        assert (tmp_path / locks.S390_LOCK).read_text() == f"{os.getpid()}\n"
        with open(tmp_path / locks.OWN_LOCK, encoding="ascii") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.listdir(tmp_path / "run/lock") == []
    assert (tmp_path / "run/apvfio").stat().st_mode & 0o777 == 0o700
    with locks.holding_locks(str(tmp_path)):
        pass


def test_the_locks_are_freed_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locks.holding_locks(str(tmp_path)):
        raise RuntimeError
    assert os.listdir(tmp_path / "run/lock") == []


def test_who_waits_too_long_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    script = (
        "import sys, time; from apvfio.locks import holding_locks\n"
        "with holding_locks(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            both = (
                locks.own_lock(str(tmp_path / locks.OWN_LOCK), wait=0.05),
                locks.s390_lock(str(tmp_path / locks.S390_LOCK), wait=0.05),
            )
            for lock in both:
                with pytest.raises(ApvfioError, match=f"held by pid {holder.pid} .*python"), lock:
                    pytest.fail("two held it")
        finally:
            holder.kill()
    # A dead holder's lock of the first kind is free, of the second kind stale.
    with locks.holding_locks(str(tmp_path)):
        pass


def test_a_lock_without_a_pid_is_stale_after_two_minutes(s390: str) -> None:
    os.makedirs(os.path.dirname(s390))
    with open(s390, "w", encoding="ascii"):
        pass
    with pytest.raises(ApvfioError, match="an unknown process"), locks.s390_lock(s390, wait=0.05):
        pytest.fail("somebody is about to write his pid into it")
    old = time.time() - 121
    os.utime(s390, (old, old))
    with locks.s390_lock(s390, wait=0.05):
        pass


def test_a_lock_taken_over_by_another_is_not_removed(s390: str) -> None:
    with locks.s390_lock(s390), open(s390, "w", encoding="ascii") as file:
        file.write(f"{GONE}\n")
    assert os.path.exists(s390)


def test_a_link_planted_in_place_of_our_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    os.makedirs(tmp_path / "run/apvfio")
    os.symlink(victim, tmp_path / locks.OWN_LOCK)
    with pytest.raises(HostError, match="symbolic link"), locks.holding_locks(str(tmp_path)):
        pytest.fail("it was followed")
    assert victim.read_text() == "keep"

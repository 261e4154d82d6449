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

from apvfio.model.errors import ApvfioError, HostError
from apvfio.store import locks

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
        "import sys, time; from apvfio.store.locks import holding_locks\n"
        "with holding_locks(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            both = (
                locks.own_lock(str(tmp_path / locks.OWN_LOCK), locks.Patience(0.05)),
                locks.s390_lock(str(tmp_path / locks.S390_LOCK), locks.Patience(0.05)),
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
    with pytest.raises(ApvfioError, match="an unknown process"), locks.s390_lock(s390, locks.Patience(0.05)):
        pytest.fail("somebody is about to write his pid into it")
    old = time.time() - 121
    os.utime(s390, (old, old))
    with locks.s390_lock(s390, locks.Patience(0.05)):
        pass


def test_a_process_that_started_after_the_lock_was_made_is_not_its_holder(s390: str) -> None:
    with locks.s390_lock(s390):
        pass
    with subprocess.Popen(["sleep", "60"]) as later:
        try:
            for age, held in ((3600, False), (0, True)):
                with open(s390, "w", encoding="ascii") as file:
                    file.write(f"{later.pid}\n")
                os.utime(s390, (time.time() - age, time.time() - age))
                if held:
                    with pytest.raises(ApvfioError, match=f"pid {later.pid} .sleep 60. for 0 s"):
                        locks.s390_lock(s390, locks.Patience(0.05)).__enter__()
                else:
                    with locks.s390_lock(s390, locks.Patience(0.05)):
                        pass
        finally:
            later.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file is given to another user")
@pytest.mark.parametrize("what", ["lock", "empty", "link", "fifo"])
def test_what_another_user_put_in_the_locks_place_is_no_lock(s390: str, what: str) -> None:
    os.makedirs(os.path.dirname(s390))
    if what == "link":
        os.symlink("/etc/passwd", s390)
    elif what == "fifo":
        os.mkfifo(s390)
    else:
        with open(s390, "w", encoding="ascii") as file:
            file.write("1\n" if what == "lock" else "")
    os.lchown(s390, 65534, 65534)
    with locks.s390_lock(s390, locks.Patience(0.05)):
        with open(s390, encoding="ascii") as file:
            assert file.read() == f"{os.getpid()}\n"
        assert not os.path.islink(s390)


def test_all_locks_of_one_call_are_waited_for_no_longer_than_one_may_be(tmp_path: Path, s390: str) -> None:
    patience = locks.Patience(0.4)
    with locks.own_lock(str(tmp_path / locks.OWN_LOCK)), pytest.raises(ApvfioError):
        locks.holding_locks(str(tmp_path), patience).__enter__()
    begun = time.monotonic()
    with locks.s390_lock(s390), pytest.raises(ApvfioError, match="s390apconfig"):
        locks.holding_locks(str(tmp_path), patience).__enter__()
    assert time.monotonic() - begun < 0.3
    # Nobody has them: they are had at once.
    with locks.holding_locks(str(tmp_path), patience):
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


COUNT = """
import sys
from apvfio.store.locks import S390_LOCK, holding_locks, s390_lock
root, times, who = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for _ in range(times):
    with holding_locks(root) if who == "apvfio" else s390_lock(f"{root}/{S390_LOCK}"):
        with open(f"{root}/count") as file:
            count = int(file.read())
        with open(f"{root}/count", "w") as file:
            file.write(str(count + 1))
"""


def counting(root: Path, times: int, who: str = "apvfio") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", COUNT, str(root), str(times), who], stderr=subprocess.PIPE)


def all_counted(root: Path, processes: list[subprocess.Popen[bytes]], expected: int) -> None:
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, b"")
    assert (root / "count").read_text() == str(expected)
    assert os.listdir(root / "run/lock") == []


def test_of_many_processes_with_either_lock_none_loses_an_update(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    who = ["apvfio", "apvfio", "chzdev"] * 3
    all_counted(tmp_path, [counting(tmp_path, 5, name) for name in who], len(who) * 5)


def test_many_that_find_the_lock_of_a_dead_process_take_turns_all_the_same(tmp_path: Path, s390: str) -> None:
    """Two may find it stale and the second removes the lock of the first: apvfio's own keeps them apart."""
    (tmp_path / "count").write_text("0")
    os.makedirs(os.path.dirname(s390))
    with open(s390, "w", encoding="ascii") as file:
        file.write(f"{GONE}\n")
    all_counted(tmp_path, [counting(tmp_path, 3) for _ in range(8)], 24)


def test_those_that_wait_go_on_when_the_holder_is_killed(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    script = (
        "import sys, time; from apvfio.store.locks import holding_locks\n"
        "with holding_locks(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waiting = [counting(tmp_path, 1) for _ in range(4)]
        chzdev = counting(tmp_path, 1, "chzdev")
        while len(os.listdir(tmp_path / "run/lock")) < 2 and chzdev.poll() is None:
            time.sleep(0.01)  # it has not yet made the file that it waits with
        holder.kill()
    all_counted(tmp_path, [*waiting, chzdev], 5)

# SPDX-License-Identifier: Apache-2.0
"""The lock of s390-tools, between their real programs and ours: the second waits, the dead do not count."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.store.locks import S390_LOCK
from real_tools import tool_host

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from real_tools import ToolHost, Tools

LOCK = f"/{S390_LOCK}"
FULL = "0x" + "f" * 64 + "\n"
HOLD = """\
import sys
from apvfio.store.locks import s390_lock
with s390_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
PATIENCE = 60.0


@pytest.fixture
def host(tools: Tools) -> Iterator[ToolHost]:
    with tool_host(tools) as made:
        yield made


def until(true: Callable[[], object]) -> None:
    """Wait until it is; a failure after a minute."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(host: ToolHost) -> list[str]:
    """The temporary files of those that wait for the lock."""
    return [name for name in os.listdir(host.path("/run/lock")) if name != os.path.basename(LOCK)]


def held(host: ToolHost) -> bool:
    return host.path(LOCK).exists()


def end(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, (out, err)
    return out, err


@contextmanager
def lszdev_holds(host: ToolHost) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A real lszdev that has the lock for as long as nobody writes to a pipe, where it looks for a mask."""
    fake = Path(host.work, "fake")
    (fake / "bus/ap").mkdir(parents=True)
    (fake / "bus/ap/aqmask").write_text(FULL)
    pipe = fake / "bus/ap/apmask"
    os.mkfifo(pipe)
    process = host.start(["lszdev", "--type", "ap", "--active"], {"SYSFS_ROOT": str(fake)})
    until(lambda: held(host) or process.poll() is not None)
    try:
        yield process, pipe
    finally:
        process.kill()
        process.wait()


def test_we_wait_for_lszdev_and_name_it(host: ToolHost) -> None:
    with lszdev_holds(host) as (process, pipe):
        pid = int(host.path(LOCK).read_text())
        program = host.tools.command("lszdev")[0]
        said = json.loads(host.apvfio("masks", "--json", "-a", "apmask=-0", code=Exit.FAILURE).stdout)
        assert said["error"]["message"].startswith(f"the lock {LOCK} was held by pid {pid} ({program} ")
        assert waiting(host) == []
        second = host.start([host.python, "-m", "apvfio", "masks", "-a", "apmask=-0"])
        until(lambda: waiting(host))
        assert second.poll() is None
        pipe.write_text(FULL)
        end(process)
        assert end(second)[0].endswith("ap device type configured\n")
    assert waiting(host) == []
    assert not held(host)


def test_they_wait_for_us(host: ToolHost) -> None:
    ours = host.start([host.python, "-c", HOLD, LOCK])
    assert ours.stdout
    assert ours.stdout.readline() == "held\n"
    chzdev = host.start(["chzdev", "--type", "ap", "--active", "apmask=-0"])
    until(lambda: waiting(host))
    assert chzdev.poll() is None
    assert host.system.sysfs.read("bus/ap/apmask") == FULL
    end(ours)
    assert end(chzdev)[0].endswith("ap device type configured\n")
    assert host.system.sysfs.read("bus/ap/apmask").startswith("0x7f")
    assert waiting(host) == []
    assert not held(host)


def test_what_a_killed_lszdev_leaves_is_no_obstacle(host: ToolHost) -> None:
    with lszdev_holds(host) as (process, _):
        pid = int(host.path(LOCK).read_text())
        host.namespace.kill(pid, 9)
        process.wait()
        assert held(host)
    host.apvfio("masks", "-a", "apmask=-0")
    assert not held(host)


def test_what_we_leave_when_killed_is_no_obstacle(host: ToolHost) -> None:
    ours = host.start([host.python, "-c", HOLD, LOCK])
    assert ours.stdout
    assert ours.stdout.readline() == "held\n"
    host.namespace.kill(int(host.path(LOCK).read_text()), 9)
    ours.communicate()
    assert held(host)
    assert host.run("chzdev", "--type", "ap", "--active", "apmask=-0").returncode == 0
    assert host.system.sysfs.read("bus/ap/apmask").startswith("0x7f")
    assert not held(host)


def test_a_lock_without_a_pid_is_left_alone_by_both(host: ToolHost) -> None:
    """For two minutes its maker may still be about to write it."""
    host.path(LOCK).touch()
    assert LOCK in host.apvfio("masks", "-a", "apmask=-0", code=Exit.FAILURE).stderr
    chzdev = host.start(["chzdev", "--type", "ap", "--active", "apmask=-0"])
    until(lambda: waiting(host))
    old = time.time() - 121
    os.utime(host.path(LOCK), (old, old))
    end(chzdev)
    host.path(LOCK).touch()
    os.utime(host.path(LOCK), (old, old))
    host.apvfio("masks", "-a", "apmask=+0")
    assert not held(host)

# SPDX-License-Identifier: Apache-2.0
"""The hook as a process: streams that are closed or have no end, and signals in the midst."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import Exit
from apvfio.sim.host_file import open_sim
from apvfio.store.locks import OWN_LOCK
from hook_process import PATIENCE, Hook
from hostile_input import MDEV, domain, require_line
from lock_waiters import at_the_lock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


CLOSED = {
    "input": "<&-",
    "output": ">&-",
    "errors": "2>&-",
    "all": "<&- >&- 2>&-",
    "full": "2>/dev/full >/dev/full",
}


@pytest.mark.parametrize("how", CLOSED.values(), ids=CLOSED)
def test_standard_streams_that_are_closed(hook: Hook, how: str, tmp_path: Path) -> None:
    """Directly, without the shell that gives it a pipe for its input."""
    (tmp_path / "in").write_bytes(domain())
    for operation, code in (("prepare", None), ("release", 0), ("reconnect", 0)):
        feed = "" if "<" in how else f"<{tmp_path}/in"
        line = f'exec "$1" -I -m apvfio.libvirt.hook db1 {operation} begin - {feed} {how}'
        done = subprocess.run(
            ["sh", "-c", line, "sh", sys.executable],
            env={"APVFIO_SIM": str(hook.sim)},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert b"Traceback" not in done.stderr + done.stdout
        assert done.returncode == (code if code is not None else Exit.REQUEST if "<" in how else Exit.OK)
        if "<" not in how:
            assert hook.mdevs() == (
                [] if operation == "release" else [MDEV] if operation == "prepare" else []
            )


def test_nobody_listens(hook: Hook) -> None:
    """A daemon that is gone: what cannot be told must not turn a release into a failure."""
    for operation, codes in (("prepare", range(1, 256)), ("release", (0,))):
        with subprocess.Popen(
            [hook.script, "x", operation, "begin", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"APVFIO_SIM": str(hook.sim)},
        ) as done:
            assert done.stderr is not None
            assert done.stdin is not None
            done.stderr.close()
            done.stdin.write(b"<urn:apvfio:guest:1")
            done.stdin.close()
            assert done.wait(PATIENCE) in codes  # Python's own, if it cannot even flush


def test_input_without_an_end_is_bounded(hook: Hook) -> None:
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(
            [sys.executable, "-I", "-m", "apvfio.libvirt.hook", "x", "prepare", "begin", "-"],
            stdin=zeros,
            env={"APVFIO_SIM": str(hook.sim)},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == Exit.REQUEST
    assert b"larger than 64 MiB" in done.stderr
    done = subprocess.run(
        ["sh", "-c", 'yes urn:apvfio:guest:1 | "$1" x prepare begin -', "sh", hook.script],
        env={"APVFIO_SIM": str(hook.sim), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == Exit.REQUEST
    require_line(done.stderr.decode())


# The n-th write to the kernel is the last that this process makes.
STRUCK = """\
import os, sys
from apvfio.libvirt import hook
from apvfio.sim.kernel import SimKernel
store, left = SimKernel.write, [int(sys.argv[1])]
def write(self, path, text):
    store(self, path, text)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), int(sys.argv[2]))
SimKernel.write = write
sys.exit(hook.main(sys.argv[3:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_signal_in_the_midst_is_repaired_by_the_next_call(
    hook: Hook, number: signal.Signals, nth: int
) -> None:
    with open_sim(str(hook.sim)) as system:
        before = read_host(system.sysfs)
    struck = [sys.executable, "-c", STRUCK, str(nth), str(int(number)), "db1", "prepare", "begin", "-"]
    done = subprocess.run(
        struck,
        input=domain(),
        env={"APVFIO_SIM": str(hook.sim)},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    if number == signal.SIGINT:
        assert done.returncode == Exit.FAILURE
        require_line(done.stderr.decode())
    elif number != signal.SIGPIPE:
        assert done.returncode == -number
    # libvirt counts that as a failed start and calls release; or the guest is started again.
    assert hook.call(domain()).returncode == 0
    assert hook.mdevs() == [MDEV]
    assert hook.call(domain(), "release").returncode == 0
    with open_sim(str(hook.sim)) as system:
        assert read_host(system.sysfs) == before


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold apvfio's own lock."""
    path.parent.mkdir(parents=True, mode=0o700)
    with open(path, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_is_ended_while_it_waits_leaves_nothing_that_counts(
    tmp_path: Path, number: signal.Signals
) -> None:
    with (
        held(tmp_path / OWN_LOCK),
        subprocess.Popen(
            [sys.executable, "-I", "-m", "apvfio.libvirt.hook", "db1", "prepare", "begin", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"APVFIO_ROOT": str(tmp_path)},
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(domain())
        process.stdin.close()
        end = time.monotonic() + PATIENCE
        while process.pid not in at_the_lock(str(tmp_path)):
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(PATIENCE) in (-number, Exit.FAILURE)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()

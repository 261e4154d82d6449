# SPDX-License-Identifier: Apache-2.0
"""Real processes, hooks/qemu and ``python -m apvfio``: hostile input, odd environments, interruption."""

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

from apvfio.assets import hook_script
from apvfio.errors import Exit
from apvfio.host import read_host
from apvfio.locks import OWN_LOCK
from apvfio.sim.kernel import SimKernel
from apvfio.sim.store import create_sim, open_sim
from apvfio.waiting import ROOM
from hostility import HOSTDEV, MDEV, UUID, domain, require_line
from hosts import IBM_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATIENCE = 60
EVIL = "raise SystemExit('this must not run')\n"


class Hook:
    """libvirt's hook as it is installed, on a simulated host."""

    def __init__(self, directory: Path) -> None:
        self.script = directory / "50-apvfio"
        self.script.write_text(hook_script())
        self.script.chmod(0o755)
        self.sim = directory / "host.json"
        create_sim(
            str(self.sim), SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
        )

    def call(
        self, xml: bytes, operation: str = "prepare", name: str = "db1", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.script, name, operation, "begin", "-"],
            input=xml,
            env={"APVFIO_SIM": str(self.sim), **(env or {})},
            cwd=self.script.parent,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def mdevs(self) -> list[str]:
        with open_sim(str(self.sim)) as system:
            return list(read_host(system.sysfs).mdevs)


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


BARE = b"<domain><name>x</name><devices/></domain>"
HOSTILE = {
    "bytes": b"\xff\xfe\0urn:apvfio:guest:1\x1b[31m",
    "bomb": b"<!DOCTYPE d [<!ENTITY a 'b'>]>" + domain(),
    "two": domain().replace(b"</metadata>", domain().partition(b"<metadata>")[2].partition(b"<devices>")[0]),
    "deep": b"<!-- urn:apvfio:guest:1 -->" + b"<a>" * 100_000,
    "name": domain('<ap:matrix adapters="77" domains="1"/>', name="\u202e\u009b31m\n-x"),
    "uuid": domain(uuid="--help"),
    "huge": domain().ljust(17 << 20),
    "list": domain(f'<ap:matrix adapters="{"0," * 100_000}" domains="1"/>'),
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE)
def test_the_hook_refuses_it_in_a_line(hook: Hook, xml: bytes) -> None:
    before = hook.sim.read_bytes()
    done = hook.call(xml, name="-x\n'\"$(touch run)`touch run`;touch run")
    assert done.returncode in (Exit.REQUEST, Exit.HOST)
    assert done.stdout == b""
    require_line(done.stderr.decode())
    assert hook.sim.read_bytes() == before
    assert not (hook.script.parent / "run").exists()


@pytest.mark.parametrize(
    "xml", [b"", b"\0" * 100, BARE, b"-f/etc/passwd", b"<uuid>-e</uuid>", b"x" * 300_000], ids=len
)
def test_a_guest_that_is_not_ours_is_let_pass_whatever_it_is(hook: Hook, xml: bytes) -> None:
    for operation in ("prepare", "release", "reconnect", "", "-x", "prepare\nrelease"):
        done = hook.call(xml, operation)
        assert (done.returncode, done.stdout) == (0, b"")
        assert b"Traceback" not in done.stderr


def test_the_environment_of_the_caller_does_not_matter(hook: Hook, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("json", "select", "lxml", "sitecustomize", "usercustomize", "apvfio"):
        (evil / f"{name}.py").write_text(EVIL)
        (tmp_path / f"{name}.py").write_text(EVIL)
    for name in ("cat", "head", "grep", "python3", "printf"):
        (evil / name).write_text("#!/bin/sh\necho this must not run\n")
        (evil / name).chmod(0o755)
    odd = {
        "PYTHONPATH": str(evil), "PYTHONHOME": str(evil), "PYTHONSTARTUP": str(evil / "json.py"),
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": str(evil), "PYTHONPLATLIBDIR": "evil", "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "PATH": str(evil), "HOME": str(evil), "IFS": "/", "LANG": "xx_YY", "LC_ALL": "tr_TR.ISO-8859-9",
        "TMPDIR": "/nowhere",
        "COLUMNS": "x", "PYTHONIOENCODING": "no-such",
    }  # fmt: skip
    done = hook.call(domain(), env=odd)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert hook.mdevs() == [MDEV]
    assert hook.call(domain(), "release", env=odd).returncode == 0
    assert hook.mdevs() == []


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
        line = f'exec "$1" -I -m apvfio.hook db1 {operation} begin - {feed} {how}'
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
            [sys.executable, "-I", "-m", "apvfio.hook", "x", "prepare", "begin", "-"],
            stdin=zeros,
            env={"APVFIO_SIM": str(hook.sim)},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == Exit.REQUEST
    assert b"larger than 16 MiB" in done.stderr
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
from apvfio import hook
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
    room = tmp_path / ROOM
    with (
        held(tmp_path / OWN_LOCK),
        subprocess.Popen(
            [sys.executable, "-I", "-m", "apvfio.hook", "db1", "prepare", "begin", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"APVFIO_ROOT": str(tmp_path)},
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(domain())
        process.stdin.close()
        end = time.monotonic() + PATIENCE
        while not (room.is_dir() and any("." not in name for name in os.listdir(room))):
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(PATIENCE) in (-number, Exit.FAILURE)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    from apvfio.waiting import FileRoom

    assert FileRoom(str(room)).tickets() == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([b"plan", b"--xml", b"\xff\x1b[31m\n"], Exit.USAGE),
        ([b"--sim", b"\xff\n", b"status"], Exit.REQUEST),
        ([b"--root", b"x/" * 30_000, b"status"], Exit.HOST),
        ([b"release", b"x" * 65_536], Exit.REQUEST),
        ([b"masks", b"apmask=" + b"-1," * 20_000], Exit.REQUEST),
        ([b"\x1b]0;x\x07"], Exit.USAGE),
    ],
)
def test_a_command_in_a_process_of_its_own(hook: Hook, words: list[bytes], code: Exit) -> None:
    before = hook.sim.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "apvfio", *words],
        env={"LC_ALL": "C", **({} if words[0] in (b"--sim", b"--root") else {"APVFIO_SIM": str(hook.sim)})},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, b"")
    require_line(done.stderr.decode())
    assert hook.sim.read_bytes() == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
def test_a_terminal_that_cannot_show_a_name(hook: Hook, encoding: str) -> None:
    assert hook.call(domain(name="ü\U0001d524é")).returncode == 0
    for words in (["status"], ["queues"], ["release", "ü\U0001d524é"]):
        done = subprocess.run(
            [sys.executable, "-m", "apvfio", "--sim", hook.sim, *words],
            env={"PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        done.stdout.decode(encoding)


def test_a_definition_is_no_way_around(hook: Hook) -> None:
    """A guest without annotation whose device is defined badly."""
    with open_sim(str(hook.sim)) as system:
        system.files.write(
            f"etc/mdevctl.d/matrix/{MDEV}", '{"mdev_type": "vfio_ap-passthrough", "attrs": [{"x\\n": 1}]}'
        )
    xml = f"<domain><name>d</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()
    done = hook.call(xml)
    assert done.returncode == Exit.REQUEST
    require_line(done.stderr.decode())

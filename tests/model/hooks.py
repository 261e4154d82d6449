# SPDX-License-Identifier: Apache-2.0
"""Real hook processes, killed at any moment or run under limits: the next call of any kind makes up for it.

    PYTHONPATH=tests python3 -m model.hooks --rounds 1000 --seed 1

mounts a simulated host, needs root and FUSE for that, and ends with 1 if a queue has not returned. In each
round guest 1 starts or stops, its hook is struck, and one more call is made, without which nothing happens.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.main import main as apvfio
from apvfio.engine.deferred import DIRECTORY
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.model.ledger import HELD
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import load
from apvfio.store.system import RealSystem
from hosts import guest
from lab.hook import hook_script
from model.befores import BESIDE, ONE, domain_xml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.request import Request

PATIENCE = 60
DESCRIPTORS = range(9, 22)
MEGABYTES = range(36, 61)
RUN, LOCK = "run", "run/lock"
_RECORDS = ("run/apvfio", "var/lib/apvfio")
_TELL_EACH = 50
_SPACE = 256
"""KiB that /run and /run/lock have."""


class Strike(NamedTuple):
    """What happens to a hook."""

    what: str
    """``kill``, ``descriptors``, ``memory``, ``full`` or ``read-only``; '' for nothing."""
    where: str = ""
    """``interpreter``, ``shell`` or ``group`` for a kill, else the directory."""
    size: float = 0
    """When it is killed, as a part of the time that it usually takes; or the limit."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.what, self.where, f"{self.size:.3g}" if self.size else "")))


class Round(NamedTuple):
    """One of them, as it can be repeated."""

    operation: str
    """Of the hook that is struck."""
    strike: Strike
    then: str
    """The next call."""
    unit: bool
    """Whether the unit watches for what the hook has no time for."""

    def __str__(self) -> str:
        return f"{self.operation}, {self.strike}, then {self.then}{', with the unit' if self.unit else ''}"


class LostError(AssertionError):
    """A queue has not returned."""


class GuestEnv:
    """A mounted simulated host, libvirt's hook as it is installed, and what is done with both."""

    def __init__(self, directory: Path) -> None:
        self.tree = directory / "tree"
        self.system = RealSystem(str(self.tree))
        self.hook = directory / "50-apvfio"
        self.hook.write_text(hook_script())
        self.hook.chmod(0o755)
        self.before = read_host(self.system.sysfs)
        self.count: Counter[str] = Counter()
        self.usual = {operation: self._time(operation) for operation in ("prepare", "release")}
        """Seconds that each operation takes."""

    def _time(self, operation: str) -> float:
        begun = time.monotonic()
        self.call(operation, ONE)
        return time.monotonic() - begun

    # Calls.

    def start(self, operation: str, request: Request, *limit: str) -> Popen:
        """The hook as libvirt runs it, in a session of its own, under a ``limit`` of prlimit(1)'s."""
        process = subprocess.Popen(
            [*(("prlimit", *limit) if limit else ()), self.hook, request.guest, operation, "begin", "-"],
            env={"PATH": os.environ["PATH"], "APVFIO_ROOT": str(self.tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin
        with suppress(BrokenPipeError):  # it has been killed, or has what it needs
            process.stdin.write(domain_xml(request))
            process.stdin.close()
        process.stdin = None
        return process

    def end(self, process: Popen) -> int:
        """Wait for the hook and all that it started; its exit code."""
        code = process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        with suppress(ProcessLookupError):
            while True:
                os.killpg(process.pid, 0)
                if time.monotonic() > deadline:
                    raise LostError("a process of the hook goes on and on")
                time.sleep(0.005)
        return code

    def call(self, operation: str, request: Request) -> int:
        """The hook, and nothing happens to it; its exit code."""
        return self.end(self.start(operation, request))

    def command(self, *words: str) -> int:
        """A command of apvfio's; its exit code."""
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return apvfio(["--root", str(self.tree), *words])

    # What is there.

    def held(self, n: int) -> bool:
        """Whether the ledger says that guest ``n`` holds queues."""
        ledger = load(self.system.files, self.system.boot_id)
        return any(lease.state == HELD for lease in ledger.of_guest(guest(n)))

    def records(self) -> list[str]:
        """The stops that are recorded."""
        found = []
        for place in _RECORDS:
            with suppress(FileNotFoundError):
                found += [name for name in os.listdir(self.tree / place) if name.startswith("stopped.")]
        return found

    # A round.

    def play(self, round_: Round) -> None:
        """Play it; LostError unless the next call makes up for what the strike has left."""
        with self._watched(round_.unit):
            stops = round_.operation == "release"
            if stops:
                start_guest(self.system, ONE)
            if round_.then in ("stop", "release"):
                start_guest(self.system, BESIDE)
            knew, code = self._struck(round_)
            if stops:
                require(f"the hook of a stop ended with {code}", code <= 0)
            elif code == 0 and round_.strike.what != "kill":
                require("a start went well and has no queues", self.held(1))
            if not stops:
                # libvirt's daemon has the hook called at the end of each start that failed, too.
                self.call("release", ONE)
            elif self.held(1) and not self.records():
                require("a stop was forgotten", not knew)
                self.count["killed before it knew"] += 1
                self.call("release", ONE)
            self._next(round_.then)
            self._require_home(round_.then)
            for n in (1, 2):
                release_guest(self.system, guest(n))
            self._unit()
        require("the host is not as before", read_host(self.system.sysfs) == self.before)

    def _struck(self, round_: Round) -> tuple[bool, int]:
        """Whether the hook knew of the stop when it was struck, and its exit code."""
        operation, strike = round_.operation, round_.strike
        if strike.what == "kill":
            process = self.start(operation, ONE)
            time.sleep(self.usual[operation] * strike.size)
            python = interpreter_of(process.pid)
            if strike.where == "interpreter" and python:
                kill(python)
            elif strike.where == "shell" and process.poll() is None:
                kill(process.pid)
            elif strike.where == "group":
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            code = self.end(process)
            return strike.where == "interpreter" or bool(python), code
        limits = {"descriptors": f"--nofile={strike.size}", "memory": f"--as={int(strike.size) << 20}"}
        if strike.what in limits:
            return True, self.end(self.start(operation, ONE, limits[strike.what]))
        with (
            filled(self.tree / strike.where) if strike.what == "full" else read_only(self.tree / strike.where)
        ):
            return True, self.call(operation, ONE)

    def _next(self, call: str) -> None:
        code = {
            "reconcile": lambda: self.command("reconcile"),
            "release": lambda: self.command("release", BESIDE.guest),
            "start": lambda: self.call("prepare", BESIDE),
            "stop": lambda: self.call("release", BESIDE),
            "start again": lambda: self.call("prepare", ONE),
        }[call]()
        require(f"the {call} after it ended with {code}", code == 0)

    def _require_home(self, call: str) -> None:
        host, ledger = read_host(self.system.sysfs), load(self.system.files, self.system.boot_id)
        expected = {"start": [BESIDE], "start again": [ONE]}.get(call, [])
        there = {request.mdev: request.matrix for request in expected}
        require(f"the devices {host.mdevs} are left", host.mdevs == there)
        require(f"the leases {list(ledger.leases)} are left", set(ledger.leases) == set(there))
        require(f"the records {self.records()} are left", not self.records())
        self._unit()
        if not expected:
            require("the host is not as before", read_host(self.system.sysfs) == self.before)

    def _unit(self) -> None:
        """What apvfio-reconcile.path does: slow returns are deferred to it."""
        if self.system.files.list(DIRECTORY):
            require("the unit fails", self.command("reconcile") == 0)

    @contextmanager
    def _watched(self, unit: bool) -> Iterator[None]:
        """With the directory that apvfio-reconcile.path watches, or without."""
        directory = self.tree / DIRECTORY
        if unit:
            directory.mkdir(0o700)
        yield
        if unit:
            for name in os.listdir(directory):
                (directory / name).unlink()
            directory.rmdir()


Popen = subprocess.Popen[bytes]
NEXT = ("reconcile", "release", "start", "stop", "start again")
PLACES = ("interpreter", "interpreter", "shell", "group")


def draw(dice: random.Random) -> Round:
    """A round by chance."""
    what = dice.choice(("kill", "kill", "kill", "descriptors", "memory", "full", "read-only"))
    strike = {
        "kill": lambda: Strike(what, dice.choice(PLACES), dice.uniform(0, 1.2)),
        "descriptors": lambda: Strike(what, size=dice.choice(DESCRIPTORS)),
        "memory": lambda: Strike(what, size=dice.choice(MEGABYTES)),
    }.get(what, lambda: Strike(what, dice.choice((RUN, LOCK))))()
    operation = dice.choice(("release", "release", "release", "prepare"))
    return Round(operation, strike, dice.choice(NEXT), dice.random() < 0.5)


def interpreter_of(shell: int) -> int:
    """The pid of the interpreter that the hook's shell has started, 0 if there is none."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == shell and "python" in os.path.basename(os.readlink(f"/proc/{name}/exe")):
                return int(name)
    return 0


def kill(pid: int) -> None:
    """Kill a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """No space is left in a directory that is a file system of its own."""
    filler = directory / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nothing can be written in a directory that is a file system of its own."""
    mount("-o", "remount,ro", directory)
    try:
        yield
    finally:
        mount("-o", "remount,rw", directory)


def mount(*words: object) -> None:
    """mount(8)."""
    subprocess.run(["mount", *map(str, words)], check=True)


@contextmanager
def mounted(directory: Path) -> Iterator[GuestEnv]:
    """IBM's example host, mounted in ``directory``, with a /run and a /run/lock of their own."""
    file, tree = directory / "host.json", directory / "tree"
    tree.mkdir()
    create_sim(str(file), SimKernel.new())
    words = [sys.executable, "-m", "apvfio", "sim", "mount", str(file), str(tree)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process, ExitStack() as stack:
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.terminate)
        assert process.stdout
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        assert process.stdout.readline()
        for place in (RUN, LOCK):
            (tree / place).mkdir(exist_ok=True)
            mount("-t", "tmpfs", "-o", f"size={_SPACE}k,mode=755", "tmpfs", tree / place)
            stack.callback(subprocess.run, ["umount", str(tree / place)], check=True)
        yield GuestEnv(directory)


def require(what: str, holds: bool) -> None:
    """LostError telling ``what`` unless it ``holds``."""
    if not holds:
        raise LostError(what)


def main(words: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="model.hooks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="where to begin (default: %(default)s)")
    options = parser.parse_args(words)
    dice, counts, lost = random.Random(options.seed), Counter[str](), 0
    done = 0
    while done < options.rounds:
        with tempfile.TemporaryDirectory() as directory, mounted(Path(directory)) as env:
            try:
                while done < options.rounds:
                    done += 1
                    round_ = draw(dice)
                    counts[f"{round_.operation}: {round_.strike.what} {round_.strike.where}".rstrip()] += 1
                    env.play(round_)
                    if done % _TELL_EACH == 0:
                        print(f"{done} hooks struck, {lost} times something was lost", flush=True)
            except AssertionError as error:
                # What is left would spoil the next round.
                lost += 1
                print(f"LOST in round {done}: {round_}: {error}", flush=True)
            counts += env.count
    for kind, n in sorted(counts.items()):
        print(f"{n:6}  {kind}")
    print(f"{done} hooks struck, {lost} times something was lost")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Two labs, that is two simulated hosts with a libvirtd each, and guests that go from one to the other."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.store import ledger_file
from daemon_env import REQUESTED, START, eventually, leases
from hosts import mdev
from lab.guest import EMULATOR, guest_uuid
from lab.libvirtd import write_file
from lab.namespace import environment
from lab_env import LabEnv
from lifecycle_cases import State, state

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from apvfio.model.matrix import Matrix
    from lab.lab import Lab

NAME = "traveller"
TESTS = Path(__file__).parent
_PATIENCE = 120.0
DRIVER = """\
import os, signal, sys
from apvfio.migration import migrate
step, when = os.environ["DIES"].split()
took = migrate._STEPS[step]
def die(mover):
    if when == "after":
        took(mover)
    os.kill(os.getpid(), signal.SIGKILL)
migrate._STEPS[step] = die
migrate.Mover._plug_on_arrival = lambda mover: None
from apvfio.cli.main import main
sys.exit(main())
"""
"""The program, killed before or after the step that the variable DIES names."""


class Standing(NamedTuple):
    """Where the guest is, and what both hosts are like."""

    here: State
    there: State
    runs_here: bool
    runs_there: bool
    device_here: bool
    device_there: bool


class Pair:
    """Two hosts; ``here`` is where guests come from."""

    def __init__(self, here: Lab, there: Lab) -> None:
        self.here, self.there = LabEnv(here), LabEnv(there)
        self._sockets = Path(tempfile.mkdtemp(prefix="apvfio-way-"))
        # QEMU, which is nobody in particular, makes the socket that its memory comes through.
        self._sockets.chmod(0o1777)
        self._numbers = itertools.count()
        for lab in (here, there):
            make_migratable(lab)

    def end(self) -> None:
        """Leave nothing in the file system."""
        subprocess.run(["rm", "-rf", self._sockets], check=True)

    def clean(self) -> None:
        """End and forget the guest on both hosts, and what was planted there."""
        for env in (self.here, self.there):
            for planted in ("stubborn", "full", "blocked"):
                env.run(["rm", "-f", f"/var/lib/libvirt/{planted}"])
            env.clean()
            env.virsh("destroy", NAME, check=False)
            env.virsh("undefine", NAME, check=False)
            eventually(partial(leases, env), {})

    def recover(self) -> None:
        """Undo on both hosts what a cut-off migration, or a dead daemon, has left."""
        for env in (self.here, self.there):
            env.start_daemon()  # unless it runs
            env.virsh("destroy", NAME, check=False)
            if leases(env):  # of a guest that never came
                env.run([env.python, "-m", "apvfio", "release", NAME])
        self.clean()

    def start(self, requested: Matrix = REQUESTED) -> None:
        """Define the guest here, and start it."""
        self.here.define(NAME, requested, mdev(1))
        self.here.virsh(*START, NAME)

    def standing(self) -> Standing:
        """Where all stands now."""
        here, there = self.live(self.here), self.live(self.there)
        return Standing(
            state(self.here),
            state(self.there),
            runs_here=bool(here),
            runs_there=bool(there),
            device_here="<hostdev" in here,
            device_there="<hostdev" in there,
        )

    def live(self, env: LabEnv) -> str:
        """The guest's XML if it runs at ``env``, else nothing."""
        if NAME not in env.virsh("list", "--name").stdout.split():
            return ""
        return env.virsh("dumpxml", NAME, check=False).stdout  # it may have ended just now

    def words(self, *words: str, back: bool = False, at: str = "", way: str = "") -> list[str]:
        """The command that migrates the guest; with ``back`` from there to here."""
        here, there = (self.there, self.here) if back else (self.here, self.there)
        return [
            *("--root", tree(here), "migrate", "--connect", uri(here)),
            *("--at", at or f"{sys.executable} -m apvfio --root {tree(there)}"),
            *("--migrate-uri", way or self.way(), "--back-uri", self.way()),
            *(NAME, uri(there), *words),
        ]

    def way(self) -> str:
        """A new way for the guest's memory."""
        return f"unix://{self._sockets}/{next(self._numbers)}"

    def virsh(self, *words: str) -> CompletedProcess[str]:
        """Run virsh as somebody who sees both daemons, to its end, however it ends."""
        argv = ["virsh", "--connect", uri(self.here), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)

    def migrate(self, *words: str, back: bool = False, at: str = "", way: str = "") -> CompletedProcess[str]:
        """Run it to its end."""
        return self.run(self.words(*words, back=back, at=at, way=way))

    @staticmethod
    def run(words: list[str]) -> CompletedProcess[str]:
        """Run our command with ``words`` to its end."""
        return _run(["-m", "apvfio", *words])

    def dies(self, step: str, when: str = "after", *words: str) -> None:
        """Run it until it is killed, before or after ``step``."""
        done = _run(["-c", DRIVER, *self.words(*words)], DIES=f"{step} {when}")
        assert done.returncode == -signal.SIGKILL, done.stderr

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Run it beside the test."""
        return subprocess.Popen(
            [sys.executable, "-m", "apvfio", *self.words(*words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def holder(self, env: LabEnv) -> dict[str, str]:
        """The guests with a lease at ``env`` and the uuid of their device."""
        found = ledger_file.load(env.system.files, env.system.boot_id).leases.values()
        return {lease.guest: lease.mdev for lease in found}


def uri(env: LabEnv) -> str:
    """The libvirtd of ``env``, as everybody outside of it calls it."""
    return f"qemu+unix:///system?socket={env.path('/run/libvirt/libvirt-sock')}"


def tree(env: LabEnv) -> str:
    """The root of its simulated host."""
    return env.path(f"{env.lab.work}/host")


def a_letter(name: str, requested: Matrix, env: LabEnv) -> str:
    """The XML of a guest that wants queues."""
    return re.sub("<uuid>.*</uuid>", f"<uuid>{guest_uuid(name)}</uuid>", env.xml(name, requested, mdev(7)))


def make_migratable(lab: Lab) -> None:
    """A libvirtd that is not the other one, and guests that devices can be plugged into."""
    lab.libvirtd.stop()
    path = f"{lab.work}/etc/libvirt/libvirtd.conf"
    settings = f'{Path(path).read_text(encoding="utf-8")}host_uuid = "{uuid.uuid4()}"\n'
    write_file(path, settings.encode())
    write_file(f"{lab.work}{EMULATOR}", (TESTS / "ap_monitor.py").read_bytes(), 0o755)
    lab.libvirtd.start()


def _run(words: list[str], **more: str) -> CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment() | more,
        timeout=_PATIENCE,
        check=False,
    )

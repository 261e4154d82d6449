# SPDX-License-Identifier: Apache-2.0
"""One virtual machine: a QEMU process and the directory it works in."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lane import LANES, connected, free_lane
from problems import MachineError, TimedOutError
from qmp import Monitor

HERE = Path(__file__).resolve().parent.parent
GUEST = HERE / "guest"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apvfio-machine"
ROOT = CACHE / "root.squashfs"
MACHINES = CACHE / "machines"
QEMU = "qemu-system-s390x"
_NAP = 0.02


@dataclass(frozen=True)
class Shape:
    """What a machine consists of; ``memory`` in MiB, ``append`` is more of the kernel's command line."""

    kernel: str
    memory: int = 1536
    processors: int = 2
    append: str = ""

    @property
    def directory(self) -> Path:
        """Where build-kernel has put the kernel and its modules."""
        return CACHE / f"kernel-{self.kernel}"

    def check(self) -> None:
        """MachineError if something has to be built first."""
        if not (self.directory / "image").exists():
            raise MachineError(
                f"there is no kernel {self.kernel}: {HERE}/build-kernel {self.kernel} makes it"
            )
        if not ROOT.exists():
            raise MachineError(f"there is no root file system: {HERE}/build-rootfs makes it")


class Machine:
    """A machine that ``work`` belongs to. ``fleeting``: it dies with this process."""

    def __init__(self, work: Path, deadline: float, fleeting: bool = False) -> None:
        self.work = work
        self.deadline = deadline
        self.fleeting = fleeting
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, shape: Shape, share: Path | None = None, state: Path | None = None) -> None:
        """Boot, or go on from a saved state. MachineError."""
        (self.work / "empty").mkdir()
        if state is None:
            self._lend(shape)
        command = self._qemu(shape, share, state)
        if self.fleeting:
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with open(self.work / "qemu.log", "wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if state is not None:
            while self.monitor("query-status")["status"] == "inmigrate":
                time.sleep(_NAP)
            self.monitor("cont")

    def _lend(self, shape: Shape) -> None:
        """What the machine copies while it boots: its scripts and its kernel's modules."""
        shutil.copytree(GUEST, self.work / "rig" / "guest")
        shutil.copytree(shape.directory / "modules", self.work / "rig" / "modules", symlinks=True)

    def _qemu(self, shape: Shape, share: Path | None, state: Path | None) -> list[str]:
        booting = self.work / "rig"
        words = [QEMU, "-machine", "s390-ccw-virtio", "-accel", "tcg,thread=multi", "-cpu", "max"]
        words += ["-m", str(shape.memory), "-smp", str(shape.processors)]
        words += ["-nodefaults", "-display", "none", "-no-reboot"]
        words += ["-kernel", str(shape.directory / "image")]
        words += ["-append", f"root=/dev/vda ro init=/usr/local/sbin/machine-boot quiet {shape.append}"]
        words += ["-drive", f"if=none,id=root,format=raw,readonly=on,file={_escaped(ROOT)}"]
        words += ["-device", "virtio-blk-ccw,drive=root", "-device", "virtio-rng-ccw"]
        for tag, path in (("rig", booting if booting.exists() else self.work / "empty"), ("share", share)):
            directory = _escaped(path or self.work / "empty")
            words += ["-fsdev", f"local,id={tag},security_model=none,multidevs=remap,path={directory}"]
            words += ["-device", f"virtio-9p-ccw,fsdev={tag},mount_tag={tag}"]
        words += ["-device", f"virtio-serial-ccw,max_ports={LANES + 1}"]
        for number in range(LANES):
            words += ["-chardev", f"socket,id=lane{number},server=on,wait=off,path=lane{number}"]
            words += ["-device", f"virtserialport,chardev=lane{number},name=lane{number}"]
        words += ["-chardev", "file,id=console,path=console.log", "-device", "sclpconsole,chardev=console"]
        words += ["-qmp", "unix:monitor,server=on,wait=off"]
        return words + (["-incoming", f"exec:cat {shlex.quote(str(state))}"] if state else [])

    def monitor(self, command: str, **arguments: object) -> dict[str, object]:
        """What QEMU returns to one command of its monitor. MachineError."""
        directory = os.open(self.work, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._check_alive()
            with connected(directory, "monitor", self.deadline) as connection:
                connection.settimeout(max(0.1, self.deadline - time.monotonic()))
                return Monitor(connection).execute(command, **arguments)
        finally:
            os.close(directory)

    def _check_alive(self) -> None:
        if time.monotonic() > self.deadline:
            raise TimedOutError
        if self._process and self._process.poll() is not None:
            raise MachineError(f"QEMU ended: {(self.work / 'qemu.log').read_text(errors='replace').strip()}")

    def ask(
        self, request: dict[str, object], out: BinaryIO | None = None, err: BinaryIO | None = None
    ) -> int:
        """The exit status of a request to the agent. MachineError, with the end of the console."""
        self._check_alive()
        try:
            with free_lane(str(self.work), self.deadline) as lane:
                return lane.ask(request, out or sys.stdout.buffer, err or sys.stderr.buffer)
        except TimedOutError:
            raise
        except MachineError as failed:
            raise MachineError(f"{failed}\n{self.console()[-2000:]}".rstrip()) from failed

    def arrive(self, share: bool) -> None:
        """Tell it the time, give it randomness of its own and mount the shared directory. MachineError."""
        news = {"time_": time.time(), "seed": secrets.token_hex(64), "share": share}
        if self.ask({"arrive": news}):
            raise MachineError("the machine did not come up")

    def console(self) -> str:
        """All that the kernel has said."""
        try:
            return (self.work / "console.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def end(self) -> None:
        """Nothing is left of it."""
        if self._process:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.work, ignore_errors=True)


def create(deadline: float, name: str | None = None) -> Machine:
    """A machine, not yet started; one with a name is there for others and outlives us. MachineError."""
    MACHINES.mkdir(mode=0o700, parents=True, exist_ok=True)
    if name is None:
        return Machine(Path(tempfile.mkdtemp(prefix="tmp-", dir=MACHINES)), deadline, fleeting=True)
    try:
        _named(name).mkdir(mode=0o700)
    except FileExistsError:
        raise MachineError(f"a machine {name} is there already; run --stop {name} ends it") from None
    return Machine(_named(name), deadline)


def _named(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise MachineError(f"a machine cannot have the name {name!r}")
    return MACHINES / name


def find(name: str, deadline: float) -> Machine:
    """The machine that was left running under this name. MachineError."""
    if not (_named(name) / "monitor").exists():
        raise MachineError(f"there is no machine {name}; run --keep {name} makes one")
    return Machine(_named(name), deadline)


def stop(machine: Machine) -> None:
    """End a machine that another process has started."""
    directory = os.open(machine.work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with connected(directory, "monitor", time.monotonic() + 1) as connection:
            connection.settimeout(10)
            Monitor(connection).execute("quit")
    except MachineError:
        pass  # It has ended already.
    finally:
        os.close(directory)
    machine.end()


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")

# SPDX-License-Identifier: Apache-2.0
"""The lab's namespaces, seen from outside: start them, run commands in them, end them."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import apvfio
from apvfio.mdev.programs import PATH
from apvfio.model.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_UNSHARE = (
    "unshare",
    "--mount",
    "--pid",
    "--net",
    "--uts",
    "--propagation=private",
    "--mount-proc",
    "--fork",
    "--kill-child",
)
_START = 30.0
_END = 20.0


def require_commands(packages: dict[str, str]) -> None:
    """HostError naming the commands, and the packages that have them, that are not there."""
    missing = {name: package for name, package in packages.items() if not shutil.which(name, path=PATH)}
    if missing:
        raise HostError(
            f"the lab needs {', '.join(missing)}.",
            remedy=f"Install {', '.join(sorted(set(missing.values())))} (names as in Debian).",
        )


class Namespace:
    """Processes with a /sys, /etc, /run, /dev and process table of their own.

    ``work`` is a directory for the lab alone, ``file`` the simulated host. When this process
    ends, in whatever way, its end of the pipe to the first process inside closes, and all
    inside end, and with them all their mounts.
    """

    def __init__(self, file: str, work: str) -> None:
        self._file = file
        self._work = work
        self._first: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Build it; HostError if that cannot be done here."""
        require_commands({"unshare": "util-linux", "nsenter": "util-linux"})
        log = os.path.join(self._work, "namespace.log")
        with open(log, "w", encoding="utf-8") as stderr:
            self._first = subprocess.Popen(
                [*_UNSHARE, sys.executable, "-m", "lab.inside", self._file, self._work],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(),
                cwd="/",
                text=True,
                # A Ctrl-C at the terminal is for us, who then end the lab in order.
                start_new_session=True,
            )
        answer = self._answer()
        if not answer.get("ready"):
            with open(log, encoding="utf-8") as stderr:
                why = stderr.read().strip().rpartition("\n")[2]
            self.stop()
            raise HostError(
                answer.get("error") or f"no namespace can be made here: {why or 'no answer'}.",
                remedy=answer.get("remedy") or "Run it with all the rights of root (CAP_SYS_ADMIN).",
            )

    def _answer(self) -> dict[str, str]:
        assert self._first
        pipe = self._first.stdout
        assert pipe
        line = pipe.readline() if select.select([pipe], [], [], _START)[0] else ""
        return dict(json.loads(line)) if line else {}

    def stop(self) -> None:
        """End all processes inside; the simulated host is saved before."""
        first, self._first = self._first, None
        if first is None:
            return
        assert first.stdin
        assert first.stdout
        with suppress(BrokenPipeError):
            first.stdin.close()
        try:
            first.wait(_END)
        except subprocess.TimeoutExpired:
            # --kill-child takes the first process inside along, and that all the others.
            first.kill()
            first.wait()
        first.stdout.close()

    def cut_power(self) -> None:
        """Kill all processes inside at once, as a host ends that loses power: nothing is saved."""
        first = self._first
        assert first
        with open(f"/proc/{first.pid}/task/{first.pid}/children", encoding="utf-8") as file:
            inside = file.read().split()
        first.kill()  # --kill-child takes the first process inside along, which ends after all the others
        first.wait()
        deadline = time.monotonic() + _END
        while any(map(_is_alive, inside)) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.stop()

    def path(self, inner: str) -> str:
        """How this process names the file that is called ``inner``, an absolute path, inside."""
        return f"/proc/{self._pid}/root{inner}"

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 30.0,
        *,
        stdin: str = "",
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, to its end; TimeoutExpired, and it is killed, when that takes too long."""
        proc = f"/proc/{self._pid}/ns"
        enter = [f"--mount={proc}/mnt", f"--net={proc}/net", f"--uts={proc}/uts"]
        enter.append(f"--pid={proc}/pid_for_children")
        with subprocess.Popen(
            ["nsenter", *enter, "--", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment() | (env or {}),
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except BaseException:
                # nsenter has forked: the command itself is in its process group.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def kill(self, pid: int, number: int) -> None:
        """Send a signal, or 0 for none, to the process that is called ``pid`` inside.

        ProcessLookupError if it is not there.
        """
        for outer in self.pids():
            with suppress(FileNotFoundError):  # it has just ended
                if _inner_pid(str(outer)) == pid:
                    os.kill(outer, number)
                    return
        raise ProcessLookupError(pid)

    def pids(self, program: str = "") -> list[int]:
        """The processes inside, by their names outside; with ``program`` those that run it."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            # It has just ended, or is none of ours.
            with suppress(FileNotFoundError, PermissionError, ProcessLookupError):
                exe = os.path.basename(os.readlink(f"/proc/{name}/exe")) if program else ""
                if exe == program and self._is_inside(name):
                    found.append(int(name))
        return found

    def running(self, *texts: str) -> list[int]:
        """The processes inside whose command line has one of ``texts``, by their names outside."""
        found = []
        for pid in self.pids():
            with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().decode("utf-8", "replace").replace("\0", " ")
                if any(text in line for text in texts):
                    found.append(pid)
        return found

    def _is_inside(self, pid: str) -> bool:
        inside = os.stat(f"/proc/{self._pid}/ns/pid_for_children")
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/pid"), inside)

    @property
    def is_up(self) -> bool:
        """Whether there is an inside."""
        return self._first is not None and self._first.poll() is None

    @property
    def network(self) -> int:
        """The process whose network namespace is that inside, for ip(8)."""
        return self._pid

    @property
    def _pid(self) -> int:
        if self._first is None:
            raise RuntimeError("the lab is not running")
        return self._first.pid


def environment() -> dict[str, str]:
    """What commands inside have for an environment, wherever the lab was started from."""
    directories = (apvfio.__file__, __file__)
    path = ":".join(os.path.dirname(os.path.dirname(os.path.abspath(file))) for file in directories)
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "PYTHONPATH": path}


def _is_alive(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _inner_pid(name: str) -> int:
    with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
        return next(int(line.split()[-1]) for line in file if line.startswith("NSpid:"))

# SPDX-License-Identifier: Apache-2.0
"""A machine to boot: a copy of this one in a container, with systemd as its first process and AP hardware.

What it writes stays in memory, on top of this machine's files, from boot to boot. When this
process ends, in whatever way, the machine ends and leaves nothing behind.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import apvfio
from apvfio.model.errors import HostError
from lab.lab import check_prerequisites
from lab.libvirtd import COMMANDS
from lab.namespace import require_commands

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(apvfio.__file__)))
_COMMANDS = {"systemd-nspawn": "systemd-container", "systemctl": "systemd", "setpriv": "util-linux"}
_PATIENCE = 60.0
_NAP = 0.05
_REMEDY = "Run it with all the rights of root (CAP_SYS_ADMIN)."
_ROOT = "/mnt/root"
_CONSOLE = "/mnt/console"
_ENDED = "/mnt/ended"
# Nothing of these is asked here, and some would wait for what a container has not.
_LEFT_OUT = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "corosync.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@.service",
    "libvirt-guests.service",
    "logrotate.timer",
    "man-db.timer",
    "pacemaker.service",
    "pcsd-ruby.service",
    "pcsd.service",
    "postgresql.service",
    "ssh.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
)
_ALONE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation=private", "--pid", "--mount-proc", "--fork", "--kill-child"),
)
_OVERLAY = f"""\
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/files /mnt/work {_ROOT}
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/files,workdir=/mnt/work {_ROOT}
echo ready
"""
"""Then the shell takes further lines from its standard input: one a boot."""


_ITS_OWN = ("/tmp/", "/run/", "/dev/")
"""What a container has for itself."""


class Computer:
    """The machine. ``file`` and the like may be used while it is off, `run` while it is on."""

    def __init__(self) -> None:
        require_commands(_COMMANDS | COMMANDS)
        check_prerequisites()
        if not os.path.isdir("/sys/fs/cgroup"):
            raise HostError("this machine has no control groups.", remedy="Mount /sys/fs/cgroup.")
        self._shell = subprocess.Popen(
            [*_ALONE, "sh", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self._tell(_OVERLAY, "no files for a machine can be laid out here")
        for unit in _LEFT_OUT:
            self.symlink("/dev/null", f"/etc/systemd/system/{unit}")
        self._leader = 0

    def _tell(self, script: str, failure: str) -> None:
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(script)
        said = ""
        while line := self._shell.stdout.readline():
            if line == "ready\n":
                return
            said = line.strip()
        raise HostError(f"{failure}: {said}.", remedy=_REMEDY)

    # Files, on or off.

    def path(self, inner: str) -> str:
        """How this process names the machine's file ``inner``."""
        return f"/proc/{self._first}/root{_ROOT}{inner}"

    @property
    def _first(self) -> int:
        """The shell's own pid: what was started is ``unshare``."""
        return _children(self._shell.pid)[0]

    def _outer(self, path: str) -> str:
        """How this process names a file beside the machine's own."""
        return f"/proc/{self._first}/root{path}"

    def write(self, inner: str, text: str | bytes, mode: int = 0o644) -> None:
        """Write one of the machine's files."""
        path = self.path(inner)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
            os.fchmod(file.fileno(), mode)

    def symlink(self, target: str, inner: str) -> None:
        """Make a link, in place of what is there."""
        path = self.path(inner)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(target, path)

    # On and off.

    def boot(self) -> None:
        """Switch it on; the boot is over when this returns. HostError if a container cannot boot here."""
        words = ["systemd-nspawn", f"--directory={_ROOT}", "--boot", "--private-network", "--quiet"]
        words += ["--register=no", "--keep-unit", "--bind=/dev/fuse", "--link-journal=no", "--console=pipe"]
        places = (CHECKOUT, HERE, sys.prefix, sys.base_prefix)
        words += [f"--bind-ro={place}" for place in places if _is_missing(place)]
        with suppress(FileNotFoundError):
            os.unlink(self._outer(_ENDED))
        assert self._shell.stdin
        self._shell.stdin.write(f"{shlex.join(words)} </dev/null >{_CONSOLE} 2>&1 || :; touch {_ENDED}\n")
        until(self._is_up)
        # Waits for the boot's jobs; that a unit failed is for the tests to find.
        self.run("systemctl", "is-system-running", "--wait")

    def _is_up(self) -> bool:
        if self._find_leader():
            return self.run("systemctl", "is-system-running").stdout.strip() not in ("", "offline")
        # Not "the shell has no child": it opens the console before it forks.
        if os.path.exists(self._outer(_ENDED)):
            with open(self._outer(_CONSOLE), encoding="utf-8", errors="replace") as file:
                said = file.read().strip().rpartition("\n")[2] or "systemd-nspawn ended without a word"
            raise HostError(f"no container boots here: {said}.", remedy=_REMEDY)
        return False

    def power_off(self) -> None:
        """Shut it down in order."""
        self.run("systemctl", "poweroff")
        self._wait_for_end()

    def lose_power(self) -> None:
        """Nothing in it gets to do anything any more."""
        os.kill(self._leader, 9)
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        until(lambda: not os.path.exists(f"/proc/{self._leader}"))
        self._leader = 0
        self._tell("echo ready\n", "the machine cannot be booted again")

    def close(self) -> None:
        """End all of it."""
        self._shell.kill()
        self._shell.communicate()

    def _find_leader(self) -> int:
        """The pid, here, of the machine's first process, or 0."""
        pids = _children(self._shell.pid)
        while pids:
            pid = pids.pop()
            with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
                numbers = next(line.split()[1:] for line in file if line.startswith("NSpid:"))
                if len(numbers) > len(_numbers(self._shell.pid)) + 1 and numbers[-1] == "1":
                    self._leader = pid
            pids += _children(pid)
        return self._leader

    # In it.

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it, to its end, however it ends."""
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--pid", "--net", "--uts", "--ipc", "--"]
        return subprocess.run(
            [*enter, *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
            check=False,
        )

    def did(self, *argv: str, stdin: str = "") -> str:
        """Run a command that must succeed; what it printed."""
        done = self.run(*argv, stdin=stdin)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def virsh(self, *words: str, stdin: str = "") -> str:
        """Run virsh, which must succeed."""
        return self.did("virsh", "--connect", "qemu:///system", "--quiet", *words, stdin=stdin)

    def apvfio(self, *words: str) -> str:
        """Run our command, which must succeed."""
        return self.did(os.path.join(os.path.dirname(sys.executable), "apvfio"), *words)

    def unit(self, name: str, key: str) -> str:
        """A property of a unit."""
        return self.did("systemctl", "show", f"--property={key}", "--value", name).strip()

    def log(self, unit: str) -> str:
        """What a unit's processes have said in this boot."""
        return self.did("journalctl", "--boot", "--no-pager", "--output=cat", f"--unit={unit}")


def until(so: Callable[[], object]) -> None:
    """Wait until it is so; AssertionError if it never is."""
    deadline = time.monotonic() + _PATIENCE
    while not so():
        assert time.monotonic() < deadline
        time.sleep(_NAP)


def _is_missing(place: str) -> bool:
    """Whether a copy of the root's file system, in a container, is without ``place``."""
    return place.startswith(_ITS_OWN) or os.stat(place).st_dev != os.stat("/").st_dev


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _numbers(pid: int) -> list[str]:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(line.split()[1:] for line in file if line.startswith("NSpid:"))

# SPDX-License-Identifier: Apache-2.0
"""Real programs on a simulated host: chzdev and its kin under user-mode emulation, two releases of mdevctl.

What runs is what Debian ships, unmodified, in a namespace of its own whose /sys, /etc and /run
are the simulated host's. There each program is where apvfio looks for it, in /usr/sbin.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.sim import fuse
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.system import RealSystem
from hosts import mdev
from lab.libvirtd import write_settings
from lab.namespace import Namespace, environment, require_commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from subprocess import CompletedProcess

FETCH = Path(__file__).parent / "tools" / "fetch"
S390_LOCK = "/run/lock/s390apconfig.lock"
_EMULATED = ("chzdev", "lszdev", "lszcrypt")
_PLACED = """\
import os, sys
from lab.mounts import open_up, place
wrappers, root = sys.argv[1:]
names = tuple(os.listdir(wrappers))
open_up("/usr/sbin", without=names)
for name in names:
    place(f"{wrappers}/{name}", f"/usr/sbin/{name}")
open_up("/usr/lib", without=("mdevctl",))
place(f"{root}/usr/lib/mdevctl", "/usr/lib/mdevctl")
"""


class Tools(NamedTuple):
    """Where the fetched programs are."""

    directory: Path

    def command(self, name: str) -> list[str]:
        """How to run the s390x program ``name``."""
        root = self.directory / "s390x"
        libraries = root / "usr/lib/s390x-linux-gnu"
        emulator = [] if platform.machine() == "s390x" else ["/usr/bin/qemu-s390x-static"]
        return [*emulator, *_loaded(libraries, root / "usr/sbin" / name)]

    def newer_mdevctl(self) -> list[str]:
        """How to run the fetched mdevctl."""
        root = self.directory / "native"
        (libraries,) = (root / "usr/lib").glob("*-linux-gnu*")
        return _loaded(libraries, root / "usr/bin/mdevctl")


def _loaded(libraries: Path, program: Path) -> list[str]:
    # Through its own loader: the libraries of the machine are of another release or architecture.
    (loader,) = {path.resolve() for path in libraries.glob("ld*.so.[12]")}
    return [str(loader), "--library-path", str(libraries), str(program)]


def fetched() -> Tools:
    """The programs, fetched if need be; HostError or CalledProcessError if they cannot be had."""
    require_commands({"unshare": "util-linux", "nsenter": "util-linux", "mdevctl": "mdevctl"})
    if platform.machine() != "s390x":
        require_commands({"qemu-s390x-static": "qemu-user-static"})
    fuse.load_library()
    done = subprocess.run(["sh", FETCH], capture_output=True, text=True, timeout=900, check=True)
    return Tools(Path(done.stdout.strip()))


class ToolHost:
    """A simulated host and the programs that work on it."""

    def __init__(self, namespace: Namespace, work: str, tools: Tools) -> None:
        self.namespace = namespace
        self.work = work
        self.root = f"{work}/host"
        """Where the host's tree is, inside."""
        self.tools = tools
        self.system = RealSystem(namespace.path(self.root))
        self.python = sys.executable

    def run(
        self,
        *words: str,
        stdin: str = "",
        env: dict[str, str] | None = None,
        code: int | None = 0,
    ) -> CompletedProcess[str]:
        """Run a command; unless ``code`` is None it must end with that."""
        done = self.namespace.run(words, 120.0, stdin=stdin, env=env)
        assert code is None or done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done

    def apvfio(self, *words: str, code: int | None = 0, stdin: str = "") -> CompletedProcess[str]:
        """Run our command."""
        return self.run(self.python, "-m", "apvfio", *words, code=code, stdin=stdin)

    def mdevctl(self, action: str, n: int, definition: str = "", code: int | None = 0) -> str:
        """Run mdevctl on the n-th device; what it says on standard error."""
        words = ["-p", "matrix", "--jsonfile", "/proc/self/fd/0"] if definition else []
        return self.run("mdevctl", action, "-u", mdev(n), *words, stdin=definition, code=code).stderr

    def start(self, words: Sequence[str], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Begin a command inside and do not wait for it; end it with `finish`."""
        pid = self.namespace.path("").split("/")[2]
        enter = [f"--mount=/proc/{pid}/ns/mnt", f"--pid=/proc/{pid}/ns/pid_for_children"]
        return subprocess.Popen(
            ["nsenter", *enter, "--", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment() | (env or {}),
            text=True,
        )

    def masks(self) -> str:
        """What lszdev prints of both scopes."""
        return self.run("lszdev", "--type", "ap").stdout

    def path(self, inner: str) -> Path:
        """The file that is called ``inner`` inside."""
        return Path(self.namespace.path(inner))


@contextmanager
def tool_host(
    tools: Tools, kernel: SimKernel | None = None, *, newer_mdevctl: bool = False
) -> Iterator[ToolHost]:
    """A host, with the machine's own mdevctl or with the fetched one."""
    work = tempfile.mkdtemp(prefix="apvfio-tools-")
    namespace = Namespace(f"{work}/host.json", work)
    try:
        create_sim(f"{work}/host.json", kernel or SimKernel.new())
        write_settings(work)
        wrappers = {name: tools.command(name) for name in _EMULATED}
        if newer_mdevctl:
            wrappers["mdevctl"] = tools.newer_mdevctl()
        os.mkdir(f"{work}/sbin")
        for name, words in wrappers.items():
            path = Path(work, "sbin", name)
            path.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
            path.chmod(0o755)
        namespace.start()
        host = ToolHost(namespace, work, tools)
        host.run(sys.executable, "-c", _PLACED, f"{work}/sbin", host.root)
        yield host
    finally:
        namespace.stop()
        shutil.rmtree(work, ignore_errors=True)

# SPDX-License-Identifier: Apache-2.0
"""The lab as its users see it: a simulated host, a libvirtd on it, commands, and an end without traces."""

from __future__ import annotations

import os
import shutil
import tempfile

from apvfio.model.errors import HostError
from apvfio.sim import fuse
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.system import RealSystem
from lab import guest
from lab.libvirtd import COMMANDS, HOOK, Libvirtd, write_file, write_settings
from lab.namespace import Namespace, require_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import CompletedProcess
    from types import TracebackType

    from typing_extensions import Self

_EMULATOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "emulator.sh")


def check_prerequisites() -> None:
    """HostError, with a remedy, if this machine cannot have a lab. What only trying shows is not tried."""
    if os.geteuid():
        raise HostError("the lab needs the rights of root.", remedy="Run it as root.")
    if _in_chroot():
        raise HostError(
            "the lab cannot be had in a chroot: who enters its namespace leaves the chroot.",
            remedy="Run it in a container.",
        )
    fuse.load_library()
    require_commands(COMMANDS | {"unshare": "util-linux", "nsenter": "util-linux"})


def _in_chroot() -> bool:
    """Whether this process has another root than the first one though it sees the same mounts."""
    try:
        alike = os.path.samestat(os.stat("/"), os.stat("/proc/1/root"))
        return not alike and os.readlink("/proc/self/ns/mnt") == os.readlink("/proc/1/ns/mnt")
    except OSError:
        return False


class Lab:
    """A private libvirtd on a simulated host, between ``with`` and its end.

    ``hook`` is the text of the script that libvirt runs as ``hooks/qemu.d/50-apvfio``. The
    host is ``kernel``, or what the simulated host's file ``file`` holds; that file keeps the
    host when the lab is gone. HostError if there can be no lab here.
    """

    def __init__(
        self, hook: str | None = None, *, kernel: SimKernel | None = None, file: str | None = None
    ) -> None:
        self._hook = hook
        self._kernel = kernel
        self._file = file

    def __enter__(self) -> Self:
        check_prerequisites()
        # Root's alone, but for the way through it: libvirt's unprivileged QEMU reads below.
        self.work = tempfile.mkdtemp(prefix="apvfio-lab-")
        file = os.path.realpath(self._file or f"{self.work}/host.json")
        self._namespace = Namespace(file, self.work)
        self.libvirtd = Libvirtd(self._namespace, self.work)
        try:
            if not self._file:
                create_sim(file, self._kernel or SimKernel.new())
            write_settings(self.work)
            with open(_EMULATOR, "rb") as emulator:
                write_file(f"{self.work}{guest.EMULATOR}", emulator.read(), 0o755)
            write_file(f"{self.work}{guest.KERNEL}", guest.IDLE)
            if self._hook is not None:
                self.install_hook(self._hook)
            self._namespace.start()
            self.libvirtd.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        try:
            if self._namespace.is_up:
                self.libvirtd.stop()
        finally:
            self._namespace.stop()
            shutil.rmtree(self.work, ignore_errors=True)

    def cut_power(self) -> None:
        """End it as a host that loses power: nothing is saved, and the lab is over."""
        self._namespace.cut_power()
        shutil.rmtree(self.work, ignore_errors=True)

    @property
    def network(self) -> int:
        """The process whose network namespace is the lab's, for ip(8)."""
        return self._namespace.network

    def install_hook(self, text: str) -> None:
        """Replace the hook. A daemon that had none when it started has to be restarted to see it."""
        write_file(f"{self.work}/{HOOK}", text.encode(), 0o755)

    def run(
        self,
        argv: Sequence[str],
        timeout: float = 30.0,
        *,
        stdin: str = "",
        env: dict[str, str] | None = None,
    ) -> CompletedProcess[str]:
        """Run a command in the lab, to its end, however it ends; see `Namespace.run`."""
        return self._namespace.run(argv, timeout, stdin=stdin, env=env)

    def virsh(self, *words: str, stdin: str = "", timeout: float = 30.0) -> CompletedProcess[str]:
        """Run virsh against the lab's libvirtd."""
        return self.run(["virsh", "--connect", "qemu:///system", "--quiet", *words], timeout, stdin=stdin)

    def define(self, xml: str) -> CompletedProcess[str]:
        """Define a guest."""
        return self.virsh("define", "/dev/stdin", stdin=xml)

    def host(self) -> RealSystem:
        """The simulated host, as everybody in the lab sees it, from outside."""
        return RealSystem(self.path(f"{self.work}/host"))

    def path(self, inner: str) -> str:
        """How this process names the file that is called ``inner`` in the lab."""
        return self._namespace.path(inner)

    def kill(self, pid: int, number: int) -> None:
        """Send a signal to the process that is called ``pid`` in the lab."""
        self._namespace.kill(pid, number)

    def running(self, *texts: str) -> list[int]:
        """The processes in the lab whose command line has one of ``texts``, as this process names them."""
        return self._namespace.running(*texts)

    def pids(self, program: str) -> list[int]:
        """The processes in the lab that run ``program``, as this process names them."""
        return self._namespace.pids(program)

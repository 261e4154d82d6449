# SPDX-License-Identifier: Apache-2.0
"""A simulated host, mounted in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from apvfio.install.installed_files import script
from apvfio.model.errors import HostError
from apvfio.model.ids import IdSet
from apvfio.sim import fuse
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from lab import mounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PYTHON = "/usr/bin/python3"
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = f"{PACKAGES}/benchmarks/peers"


class Mounted(NamedTuple):
    """Where the tree is, and libvirt's hook for it."""

    root: str
    hook: str

    @property
    def env(self) -> dict[str, str]:
        """What leads the hook there."""
        return {"APVFIO_ROOT": self.root, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@contextmanager
def mounted(adapters: Iterable[int], domains: Iterable[int]) -> Iterator[Mounted]:
    """A host of Linux 7.2 with these adapters and domains, until ``with`` ends; HostError without FUSE."""
    if os.geteuid():
        raise HostError("a simulated host is mounted by root only.", remedy="Run it as root.")
    fuse.load_library()
    with tempfile.TemporaryDirectory(prefix="apvfio-bench-") as work:
        root, file, hook = f"{work}/tree", f"{work}/host.json", f"{work}/50-apvfio"
        os.mkdir(root)
        kernel = SimKernel.new("7.2", adapters=dict.fromkeys(adapters, "cca"), domains=IdSet(domains))
        create_sim(file, kernel)
        with open(hook, "w", encoding="utf-8") as text:
            text.write(
                script("hooks/qemu", PYTHON, packages=PACKAGES).replace("ledger=/", f"ledger={root}/", 1)
            )
        os.chmod(hook, 0o755)
        process = subprocess.Popen(
            [sys.executable, "-m", "apvfio", "sim", "mount", file, root], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout
            process.stdout.readline()
            yield Mounted(root, hook)
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()  # type: ignore[union-attr]


@contextmanager
def in_place_of_sys(host: Mounted) -> Iterator[None]:
    """The host's /sys is this process' own; HostError without mounts of our own (benchmarks/run)."""
    if os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{os.getppid()}/ns/mnt"):
        raise HostError("this process shares its mounts with others.", remedy="Use benchmarks/run.")
    mounts.bind(f"{host.root}/sys", "/sys")
    try:
        yield
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", "/sys"], check=True)

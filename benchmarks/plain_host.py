# SPDX-License-Identifier: Apache-2.0
"""A host whose /sys is an ordinary directory in memory, for processes that are measured.

Reading a file takes microseconds there, as in sysfs; played_kernel.c serves the writes. The content is the
simulated kernel's, of Linux 7.2. For each queue there is a second directory, as vfio_ap has it, which takes
the place of the first when the masks move the queue; for the device of a guest there is one ready made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.install.installed_files import script
from apvfio.model.errors import HostError
from apvfio.model.host import AP_MDEVS, BUS, MASK_NAMES
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet, format_hex
from apvfio.sim.kernel import SimKernel
from lab import mounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from apvfio.model.matrix import Matrix

PYTHON = "/usr/bin/python3"
PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = f"{PACKAGES}/benchmarks/peers"
MEMORY = "/dev/shm"
PROFILE = "7.2"
_COMPILE = ("gcc", "-O2", "-shared", "-fPIC", "-o")
_SOURCE = f"{PACKAGES}/benchmarks/played_kernel.c"
_PLAYED = ".played"
_WRITTEN = {
    *("apmask", "aqmask", "create", "remove", "ap_config"),
    *("assign_adapter", "assign_domain", "assign_control_domain"),
}
_MARKED = 0o1644
"""played_kernel.c knows by the sticky bit what it has to serve."""
_MDEVCTL = "/etc/mdevctl.d"
BRANCHES = ("bus/ap", "bus/mdev", "class/mdev_bus", "devices/ap", "devices/vfio_ap")
_DIRECTORIES = {
    "run/apvfio": 0o700,
    "run/lock": 0o755,
    "var/lib/apvfio": 0o700,
    "etc/mdevctl.d/scripts.d/callouts": 0o755,
    "etc/mdevctl.d/scripts.d/notifiers": 0o755,
}


class PlainHost(NamedTuple):
    """Where the tree is, libvirt's hook for it, and the library that plays its kernel."""

    root: Path
    hook: str
    kernel: str

    @property
    def sys(self) -> Path:
        """Its /sys."""
        return self.root / "sys"

    @property
    def env(self) -> dict[str, str]:
        """What leads the hook there."""
        paths = {"APVFIO_ROOT": str(self.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return {**paths, "LD_PRELOAD": self.kernel}

    def add_devices(self, held: Mapping[str, Matrix]) -> None:
        """Mediated devices of other guests, with the attributes that tell their matrix."""
        for uuid, matrix in held.items():
            device = self.sys / AP_MDEVS.device(uuid)
            device.mkdir()
            queues = "".join(f"{queue}\n" for queue in matrix.queues())
            for name, text in (("ap_config", f"{matrix.as_ap_config()}\n"), ("matrix", queues)):
                (device / name).write_text(text)
            (self.sys / AP_MDEVS.devices / uuid).symlink_to(f"../../../{uuid}")
            (self.sys / "bus/mdev/devices" / uuid).symlink_to(f"../../../{AP_MDEVS.device(uuid)}")


@contextmanager
def plain_host(
    adapters: Iterable[int], domains: Iterable[int], mdevs: Iterable[str], cleared: IdSet = NO_IDS
) -> Iterator[PlainHost]:
    """A host with these adapters and domains, until ``with`` ends, on which devices ``mdevs`` can be made.

    ``cleared``: adapters that it does not have, and whose bits in apmask are clear. HostError without a
    compiler or a directory in memory.
    """
    if os.geteuid():
        raise HostError("the hook serves root only.", remedy="Run it as root.")
    if not shutil.which("gcc") or not os.path.isdir(MEMORY):
        raise HostError(f"gcc or {MEMORY} is missing.", remedy="Install gcc, mount a tmpfs.")
    with tempfile.TemporaryDirectory(prefix="apvfio-bench-", dir=MEMORY) as work:
        host = PlainHost(Path(work, "tree"), f"{work}/50-apvfio", f"{work}/played_kernel.so")
        subprocess.run([*_COMPILE, host.kernel, _SOURCE], check=True)
        Path(host.hook).write_text(script("hooks/qemu", PYTHON, packages=PACKAGES), encoding="utf-8")
        os.chmod(host.hook, 0o755)
        for directory, mode in _DIRECTORIES.items():
            (host.root / directory).mkdir(parents=True)
            (host.root / directory).chmod(mode)
        _make_sys(host.sys, dict.fromkeys(adapters, "cca"), IdSet(domains), mdevs, cleared)
        yield host


@contextmanager
def in_place_of_sys(host: PlainHost) -> Iterator[None]:
    """The host's /sys and mdevctl's directory are this process' own: mdevctl knows no other place.

    HostError without mounts of our own (benchmarks/run).
    """
    if os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{os.getppid()}/ns/mnt"):
        raise HostError("this process shares its mounts with others.", remedy="Use benchmarks/run.")
    places = {"/sys": host.sys, _MDEVCTL: host.root / _MDEVCTL[1:]}
    for place, source in places.items():
        mounts.bind(str(source), place)
    try:
        yield
    finally:
        for place in places:
            subprocess.run(["/usr/bin/umount", "--lazy", place], check=True)


def _make_sys(
    sys: Path, adapters: Mapping[int, str], domains: IdSet, mdevs: Iterable[str], cleared: IdSet
) -> None:
    apmask = format_hex(ALL_IDS - cleared)
    now, freed = (SimKernel.new(PROFILE, adapters=adapters, domains=domains, apmask=apmask) for _ in range(2))
    freed.write(f"{BUS}/apmask", format_hex(NO_IDS))
    for path in BRANCHES:
        copy(now, path, sys / path)
    for name in MASK_NAMES:
        (sys / _PLAYED).mkdir(exist_ok=True)
        (sys / _PLAYED / name).write_text(now.read(f"{BUS}/{name}"), encoding="ascii")
    for queue in freed.state.queues:
        copy(freed, f"devices/ap/card{queue.adapter:02x}/{queue}", sys / _PLAYED / "queues" / str(queue))
    for uuid in mdevs:
        freed.write(AP_MDEVS.create, uuid)
        copy(freed, AP_MDEVS.device(uuid), sys / _PLAYED / "devices" / uuid)


def copy(kernel: SimKernel, path: str, target: Path) -> None:
    """Copy what the simulated kernel has at ``path`` to ``target``, links as links."""
    kind = kernel.kind(path)
    if kind == "dir":
        target.mkdir(parents=True)
        for name in kernel.list(path):
            copy(kernel, f"{path}/{name}", target / name)
    elif kind == "link":
        target.symlink_to(kernel.readlink(path))
    else:
        readable = kernel.mode(path) & 0o444
        target.write_text(kernel.read(path) if readable else "", encoding="utf-8")
        if target.name in _WRITTEN:
            target.chmod(_MARKED)

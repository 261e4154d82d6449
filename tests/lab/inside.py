# SPDX-License-Identifier: Apache-2.0
"""The first process inside the lab: it builds the simulated host's world, and ends it.

Started by `lab.namespace` in new mount, pid and network namespaces, with the
simulated host's file and a directory to work in. It says on standard output how that went,
one line of JSON, then waits for its standard input to end. With it, as process 1, everything in
the lab ends.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import sys
import time
from contextlib import suppress

from apvfio.model.errors import ApvfioError, HostError
from apvfio.sim.fuse import mount
from lab.mounts import bind, open_up, place, sysfs, tmpfs

_PRIVATE = ("/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
"""Kept in the lab's work directory; so is /etc/libvirt."""
_AUDIT_LOG = "/var/lib/apvfio"
"""The simulated host's, too."""
_HOSTS = ("apvfio", "mdevctl.d", "udev/rules.d")
"""Directories below /etc that are the simulated host's even if it had none: the machine's are not written."""
_GROUPS = 64
"""How many mdevs can have their node /dev/vfio/N: libvirt wants it to be there before it looks."""
_IOMMU_GROUPS = "/sys/kernel/iommu_groups"
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_NODES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "kvm")
_DEVICE_DIRECTORIES = ("pts", "shm", "mqueue")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_PATIENCE = 10.0


def main(argv: list[str]) -> int:
    """Build, report, wait, end."""
    file, work = argv
    # A wakeup for select() below whenever a child has ended.
    ended, notice = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(notice)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    host = f"{work}/host"
    try:
        face = mount_host(file, host)
        _build(host, work)
    except OSError as error:
        return _report(HostError(f"the lab's namespace cannot be built: {error}.", remedy=_REMEDY))
    except ApvfioError as error:
        return _report(error)
    print(json.dumps({"ready": True}), flush=True)
    stdin = sys.stdin.fileno()
    while stdin not in select.select([stdin, ended], [], [])[0]:
        os.read(ended, 4096)
        _reap()
    _end(face)
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    if not os.path.ismount(host):
        # Our maker does this, too, unless it was killed.
        shutil.rmtree(work, ignore_errors=True)
    return 0


_REMEDY = "Run it with all the rights of root; in a container, with CAP_SYS_ADMIN and CAP_MKNOD."


def _report(error: ApvfioError) -> int:
    print(json.dumps({"error": error.sentence, "remedy": error.remedy}), flush=True)
    return 1


def mount_host(file: str, host: str) -> int:
    """Mount the simulated host, in a process of its own, and wait until it is there; that process' pid."""
    os.makedirs(host, exist_ok=True)
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        os.close(told)
        os._exit(_serve(file, host, tell))
    os.close(tell)
    with open(told, encoding="utf-8") as pipe:
        answer = pipe.readline()
    if answer != "ready\n":
        raise HostError(answer.strip() or "the simulated host could not be mounted.")
    return pid


def _serve(file: str, host: str, tell: int) -> int:
    pipe = open(tell, "w", encoding="utf-8")  # noqa: SIM115

    def ready() -> None:
        print("ready", file=pipe)
        pipe.close()

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    try:
        mount(file, host, ready)
    except ApvfioError as error:
        print(error, file=sys.stderr if pipe.closed else pipe, flush=True)
        return error.code
    return 0


def _build(host: str, work: str) -> None:
    os.makedirs(f"{host}{_AUDIT_LOG}", mode=0o700, exist_ok=True)
    for name, source in {
        **{name: f"{work}{name}" for name in _PRIVATE},
        _AUDIT_LOG: f"{host}{_AUDIT_LOG}",
    }.items():
        if not os.path.isdir(name):
            open_up(os.path.dirname(name))
        place(source, name)
    _build_sys(f"{host}/sys")
    _build_dev()
    bind(f"{host}/{_BOOT_ID}", f"/{_BOOT_ID}")
    for name in _HOSTS:
        os.makedirs(f"{host}/etc/{name}", exist_ok=True)
    _merge(f"{host}/etc", "/etc", {"libvirt": f"{work}/etc/libvirt"})
    # Nothing of the machine's /run: no D-Bus, no systemd, no other libvirt.
    tmpfs("/run")
    os.mkdir("/run/libvirt")
    for name in os.listdir(f"{host}/run"):
        place(f"{host}/run/{name}", f"/run/{name}")


def _build_sys(simulated: str) -> None:
    """The machine's /sys with the simulated host's buses, classes and devices in it."""
    sysfs("/sys")
    show_in_sys(simulated)


def show_in_sys(simulated: str) -> None:
    """Put the buses, classes and devices of ``simulated`` into /sys as it is, with IOMMU groups."""
    for name in filter(os.listdir("/sys").__contains__, os.listdir(simulated)):
        # The loopback device and others that the machine cannot do without are in devices/virtual.
        _merge(f"{simulated}/{name}", f"/sys/{name}", leave="virtual")
    if not os.path.isdir(f"{simulated}/kernel/iommu_groups"):
        _make_iommu_groups()


def _make_iommu_groups() -> None:
    """libvirt takes a host without any IOMMU group for one without VFIO."""
    if not os.path.isdir(_IOMMU_GROUPS):
        open_up(os.path.dirname(_IOMMU_GROUPS))
        os.mkdir(_IOMMU_GROUPS)
    tmpfs(_IOMMU_GROUPS)
    for number in range(_GROUPS):
        os.mkdir(f"{_IOMMU_GROUPS}/{number}")


def _merge(simulated: str, directory: str, more: dict[str, str] | None = None, leave: str = "") -> None:
    """``directory`` with the entries of ``simulated``, but for ``leave``, and ``more`` instead of its own."""
    entries = {name: f"{simulated}/{name}" for name in os.listdir(simulated) if name != leave}
    entries |= more or {}
    open_up(directory, without=tuple(entries))
    for name, source in entries.items():
        place(source, f"{directory}/{name}")


def _build_dev() -> None:
    """A /dev of our own, small, with the nodes of vfio; that of the machine stays as it is."""
    machine = os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tmpfs("/dev")
    os.umask(0)
    for name in _NODES:
        with suppress(FileNotFoundError):
            node = os.stat(name, dir_fd=machine)
            os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, node.st_rdev)
    os.umask(0o022)
    for name in _DEVICE_DIRECTORIES:
        if os.path.isdir(f"/proc/self/fd/{machine}/{name}"):
            place(f"/proc/self/fd/{machine}/{name}", f"/dev/{name}")
    os.close(machine)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"/dev/{name}")
    make_vfio_nodes()


def make_vfio_nodes() -> None:
    """The nodes of vfio, for libvirt to find."""
    os.mkdir("/dev/vfio")
    # Nobody speaks to them (see emulator.sh); they only have to open.
    for name in ("vfio", *map(str, range(_GROUPS))):
        os.mknod(f"/dev/vfio/{name}", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def _reap() -> None:
    """Bury ended children; libvirt, for one, waits for QEMU's pid to vanish."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end(face: int) -> None:
    """Unmount the simulated host in order, so that it is saved."""
    deadline = time.monotonic() + _PATIENCE
    with suppress(ProcessLookupError):
        os.kill(face, signal.SIGTERM)
        while time.monotonic() < deadline:
            _reap()
            os.kill(face, 0)
            time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

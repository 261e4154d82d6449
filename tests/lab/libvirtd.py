# SPDX-License-Identifier: Apache-2.0
"""The lab's libvirt daemons: their settings, their start and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress

from apvfio.model.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.namespace import Namespace

COMMANDS = {
    "libvirtd": "libvirt-daemon-system",
    "virtlogd": "libvirt-daemon-system",
    "virsh": "libvirt-clients",
    "qemu-system-s390x": "qemu-system-misc",
}
"""What must be installed, and the packages that have it."""
HOOK = "etc/libvirt/hooks/qemu.d/50-apvfio"
_LOG = "/var/log/libvirt/libvirtd.log"
_PATIENCE = 20.0
SETTINGS = {
    # Without polkit whoever reaches the socket may use it, and that is root in the lab alone.
    "etc/libvirt/libvirtd.conf": f"""\
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:file:{_LOG}"
""",
    # A container may lack all of these, and no guest of the lab is somebody's.
    "etc/libvirt/qemu.conf": """\
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
remember_owner = 0
""",
    "etc/libvirt/virtlogd.conf": "",
}
# libudev doubts what it finds outside of a real sysfs, and half of the lab's /sys is not one.
_ENVIRONMENT = {"SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}


def write_settings(work: str) -> None:
    """Write the daemons' settings into the lab's work directory."""
    for path, text in SETTINGS.items():
        write_file(f"{work}/{path}", text.encode())
    for name in ("var/log/libvirt/qemu", "var/lib/libvirt", "var/cache/libvirt"):
        os.makedirs(f"{work}/{name}", exist_ok=True)


def write_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file in one step, with its directories: a daemon may look at any moment."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # Not beside it: libvirt runs whatever lies in a directory of hooks.
    new = f"{os.path.dirname(os.path.dirname(path))}/.{os.path.basename(path)}.new"
    with open(new, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
    os.replace(new, path)


class Libvirtd:
    """libvirtd in the lab, with virtlogd, which keeps the guests' logs."""

    def __init__(self, namespace: Namespace, work: str) -> None:
        self._namespace = namespace
        self._work = work

    def start(self) -> None:
        """Start the daemons that do not run; ready when this returns."""
        for name in ("virtlogd", "libvirtd"):
            if not self._pid(name):
                self._start(name)

    def _start(self, name: str) -> None:
        argv = [name, "--daemon", "--pid-file", _pid_file(name)]
        try:
            done = self._namespace.run(argv, _PATIENCE, env=_ENVIRONMENT)
        except subprocess.TimeoutExpired:
            raise HostError(f"the lab's {name} did not start in time.", remedy=self._hint()) from None
        if done.returncode:
            why = done.stderr.strip().rpartition("\n")[2]
            raise HostError(f"the lab's {name} does not start: {why}.", remedy=self._hint())

    def stop(self) -> None:
        """Stop libvirtd as a package update does: its guests run on."""
        self._signal("libvirtd", signal.SIGTERM)

    def crash(self) -> None:
        """Kill libvirtd."""
        self._signal("libvirtd", signal.SIGKILL)

    def freeze(self) -> None:
        """Stop libvirtd as a debugger does: it takes connections, and does not answer."""
        self._namespace.kill(self._pid("libvirtd"), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let libvirtd go on."""
        self._namespace.kill(self._pid("libvirtd"), signal.SIGCONT)

    def reload(self) -> None:
        """Have libvirtd read its settings anew; it does so in its own time."""
        self._namespace.kill(self._pid("libvirtd"), signal.SIGHUP)

    def log(self) -> str:
        """What libvirtd has to say."""
        return _text(f"{self._work}{_LOG}")

    def guest_log(self, guest: str) -> str:
        """What the guest's QEMU, and the emulator wrapper, wrote."""
        return _text(f"{self._work}/var/log/libvirt/qemu/{guest}.log")

    def _signal(self, name: str, number: int) -> None:
        pid = self._pid(name)
        deadline = time.monotonic() + _PATIENCE
        with suppress(ProcessLookupError):
            self._namespace.kill(pid, number)
            while time.monotonic() < deadline:
                self._namespace.kill(pid, 0)
                time.sleep(0.02)

    def _pid(self, name: str) -> int:
        """Its pid, 0 if it does not run."""
        try:
            pid = int(_text(self._namespace.path(_pid_file(name))) or 0)
            self._namespace.kill(pid, 0)
        except (ProcessLookupError, ValueError):
            return 0
        return pid

    def _hint(self) -> str:
        last = self.log().strip().rpartition("\n")[2]
        return f"Its log ends with: {last}" if last else "It left no log."


def _pid_file(name: str) -> str:
    return f"/run/libvirt/{name}.pid"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""

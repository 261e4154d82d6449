# SPDX-License-Identifier: Apache-2.0
"""A real sshd through which a migration reaches its destination, and what can be killed on the way."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.namespace import environment
from migration_env import tree

if TYPE_CHECKING:
    from types import TracebackType

    from lab_env import LabEnv

SSHD = "/usr/sbin/sshd"
_CONFIG = """\
ListenAddress {address}:{port}
HostKey {directory}/key
AuthorizedKeysFile {directory}/key.pub
PidFile {directory}/pid
StrictModes no
UsePAM no
PermitRootLogin yes
"""


def missing() -> str:
    """What a real ssh connection lacks on this machine, as a sentence; '' if nothing."""
    absent = [program for program in (SSHD, "ssh", "nc") if not shutil.which(program)]
    return (
        f"{', '.join(absent)} not installed (openssh-server, openssh-client, netcat-openbsd)"
        if absent
        else ""
    )


def in_network(pid: int) -> list[str]:
    """The words before a command that is to run in the network namespace of the process ``pid``."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


class Ssh:
    """An sshd of its own, on a port of its own, in the network of the process ``network`` if given."""

    def __init__(self, directory: Path, address: str = "127.0.0.1", network: int | None = None) -> None:
        self._directory = directory
        self._address, self._network = address, network
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]

    def __enter__(self) -> Ssh:
        self._directory.chmod(0o700)
        key = self._directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        config = self._directory / "config"
        text = _CONFIG.format(address=self._address, port=self._port, directory=self._directory)
        config.write_text(text)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        inside = in_network(self._network) if self._network else []
        self._sshd = subprocess.Popen([*inside, SSHD, "-D", "-f", config], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            # With its state, 0A, as proc(5) has it.
            if f":{self._port:04X} 00000000:0000 0A " in Path(f"/proc/{self._sshd.pid}/net/tcp").read_text():
                return self
            time.sleep(0.1)
        raise AssertionError("sshd does not listen")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.sessions():
            send(pid, signal.SIGKILL)
        self._sshd.kill()
        self._sshd.wait()

    def uri(self, env: LabEnv) -> str:
        """The libvirtd of ``env``, reached by libvirt's own ssh."""
        options = f"keyfile={self._directory}/key&no_verify=1&no_tty=1&proxy=netcat"
        return f"qemu+ssh://root@{self._address}:{self._port}/system?socket={env.path('/run/libvirt/libvirt-sock')}&{options}"

    def at(self, env: LabEnv) -> str:
        """The command that is apvfio at ``env``."""
        remote = f"env PYTHONPATH={environment()['PYTHONPATH']} {sys.executable} -m apvfio --root {tree(env)}"
        known = (
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
        )
        words = f"ssh -T {known} -i {self._directory}/key -p {self._port} root@{self._address}"
        return f"{words} {shlex.quote(remote)}"

    def inventory(self) -> dict[str, str]:
        """The variables by which Ansible connects to it."""
        return {
            "ansible_host": self._address,
            "ansible_port": str(self._port),
            "ansible_user": "root",
            "ansible_ssh_private_key_file": f"{self._directory}/key",
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o ControlMaster=no",
        }

    def clients(self) -> list[int]:
        """The ssh processes that are connected."""
        return _pids(lambda words: words[:1] == ["ssh"] and str(self._port) in words)

    def sessions(self) -> list[int]:
        """The processes of sshd that serve them."""
        return [
            pid for pid in _descendants(self._sshd.pid) if (_words(pid)[:1] or [""])[0].startswith("sshd")
        ]

    @staticmethod
    def incoming(env: LabEnv) -> list[int]:
        """apvfio at the destination ``env``."""
        return _pids(lambda words: {"incoming", tree(env)} <= set(words))


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """The children of a process."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]
    return []


def _descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *_descendants(child))]


def _pids(chosen: object) -> list[int]:
    assert callable(chosen)
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if chosen(_words(pid))]


def _words(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    return []

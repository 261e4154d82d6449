# SPDX-License-Identifier: Apache-2.0
"""The network between the nodes: a bridge in a namespace of its own, with a port for each node."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

from apvfio.mdev import programs

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

# With an address of its own: otherwise it has a port's, and is lost to all when that port goes.
_BRIDGE = """\
ip link add br0 address 02:00:00:00:00:01 type bridge
ip addr add $1/24 dev br0
ip link set br0 up
echo up
exec cat  # ends when we do
"""
_CLONE_NEWNET = 0x40000000


class Switch:
    """The bridge, between ``with`` and its end. ``address`` is its own: of what is neither node nor host."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> Self:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-euc", _BRIDGE, "sh", self.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": programs.PATH},
            start_new_session=True,
        )
        assert self._keeper.stdout
        assert self._keeper.stdout.readline() == b"up\n", "no bridge can be made here"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.kill()
        self._keeper.communicate()

    def plug(self, name: str, pid: int, address: str) -> None:
        """Connect the namespace of the process ``pid``, which gets an ``eth0`` with ``address``."""
        self._ip("link", "add", f"port-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._ip("link", "set", f"port-{name}", "master", "br0", "up")
        _run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        _run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "set", "eth0", "up")

    def cut(self, name: str) -> None:
        """Let nothing through to the node ``name``, as if its cable were cut."""
        self._ip("link", "set", f"port-{name}", "down")

    def mend(self, name: str) -> None:
        """Connect it again."""
        self._ip("link", "set", f"port-{name}", "up")

    def listening(self, port: int) -> socket.socket:
        """A socket that listens on the bridge's own address."""
        made: list[socket.socket] = []
        # A socket stays in the namespace in which it was made; a thread that ends takes its own along.
        thread = threading.Thread(target=lambda: made.append(self._listening(port)))
        thread.start()
        thread.join()
        return made[0]

    def _listening(self, port: int) -> socket.socket:
        namespace = os.open(f"/proc/{self._keeper.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(namespace)
        return socket.create_server((self.address, port))

    def _ip(self, *words: str) -> None:
        _run("nsenter", f"--net=/proc/{self._keeper.pid}/ns/net", "ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, env={"PATH": programs.PATH})

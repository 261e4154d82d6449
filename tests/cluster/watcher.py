# SPDX-License-Identifier: Apache-2.0
"""Who runs which guest, seen from outside all namespaces: a process that asks every QEMU again and again.

    python -m cluster.watcher DIRECTORY >LOG

It finds the QEMU processes of the cluster's nodes in /proc and asks each, by a monitor of its own, whether
the guest's processors run. A QEMU that is paused, or that waits for a migration, runs none. A guest that two
hosts seem to run is asked once more, because two answers are never given at once. Once a second it reads
which queue of a node is whose; a queue that seems to have two owners is read once more. Each change, each
guest on two hosts, and each queue with two owners is a line of JSON. The last line says how often it looked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from cluster.queue_owners import queue_owners
from cluster.watching import MARK, WATCHED

INTERVAL = 0.07
_ANSWER = 0.25
"""Seconds that a QEMU has for its answer; without one, what it said before counts."""
_YOUNG = 10.0
"""Seconds in which a process may still become a QEMU."""
_RUNNING = "running"


class Monitor:
    """The second monitor of one QEMU."""

    def __init__(self, pid: int) -> None:
        self.guest, self.node = _guest(pid), ""
        with open(f"/proc/{pid}/root{MARK}", encoding="utf-8") as file:
            self.node, self.cluster = file.read().split()
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            inner = next(line.split()[-1] for line in file if line.startswith("NSpid:"))
        self.status = ""
        self._path = f"/proc/{pid}/root{WATCHED}/{inner}"
        self._socket: socket.socket | None = None
        self._held = b""
        self._asked = 0

    def ask(self) -> bool:
        """Have `status` be what QEMU says now; return whether it has said so.

        One that does not answer keeps its status; one that cannot be reached, yet or any longer, has none.
        """
        try:
            answer = self._ask("query-status")
        except OSError:
            self.close()
            self.status = ""
            return False
        if answer:
            self.status = str(answer["status"])
        return bool(answer)

    def close(self) -> None:
        """Forget what was asked."""
        if self._socket:
            self._socket.close()
        self._socket, self._held = None, b""

    def _ask(self, command: str) -> dict[str, object]:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(_ANSWER)
            self._socket.connect(self._path)
            self._ask("qmp_capabilities")
        self._asked += 1
        self._socket.sendall(json.dumps({"execute": command, "id": self._asked}).encode() + b"\n")
        with suppress(TimeoutError):
            while True:
                line = self._line(self._socket)
                if line.get("id") == self._asked:
                    return dict(line["return"])
        return {}

    def _line(self, monitor: socket.socket) -> dict[str, Any]:
        while b"\n" not in self._held:
            more = monitor.recv(65536)
            if not more:
                raise ConnectionError
            self._held += more
        line, _, self._held = self._held.partition(b"\n")
        return dict(json.loads(line))


def _guest(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().decode("utf-8", "replace").split("\0")
    named = words[words.index("-name") + 1]
    return named.partition("guest=")[2].partition(",")[0]


class Watch:
    """All QEMU processes of one cluster."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._others: dict[int, float] = {}
        """Processes that are no QEMU, each with the time at which it was seen first."""
        self._monitors: dict[int, Monitor] = {}

    def look(self) -> tuple[dict[str, dict[str, str]], list[str]]:
        """By guest and node what its QEMU says; and the guests whose processors run on two nodes."""
        self._find()
        for monitor in self._monitors.values():
            monitor.ask()
        seen: dict[str, dict[str, str]] = {}
        running: dict[str, list[int]] = {}
        for pid, monitor in self._monitors.items():
            seen.setdefault(monitor.guest, {})[monitor.node] = monitor.status
            if monitor.status == _RUNNING:
                running.setdefault(monitor.guest, []).append(pid)
        return seen, [guest for guest, pids in running.items() if len(pids) > 1 and self._do_all_run(pids)]

    def nodes(self) -> dict[str, str]:
        """By the name of each node that has a QEMU its root directory."""
        return {monitor.node: f"/proc/{pid}/root" for pid, monitor in [*self._monitors.items()]}

    def _do_all_run(self, pids: list[int]) -> bool:
        """Whether those asked first still run after those asked last did.

        A QEMU process that is stopped does not answer, and runs no processors.
        """
        monitors = [self._monitors[pid] for pid in pids]
        return all(monitor.ask() and monitor.status == _RUNNING for monitor in monitors)

    def _find(self) -> None:
        now = time.monotonic()
        present = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for pid in self._monitors.keys() - present:
            self._forget(pid)
        self._others = {pid: first for pid, first in self._others.items() if pid in present}
        for pid in present - self._monitors.keys():
            if now - self._others.setdefault(pid, now) < _YOUNG:
                self._open(pid)

    def _open(self, pid: int) -> None:
        with suppress(OSError, ValueError, IndexError, StopIteration):
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                if not file.read().startswith("qemu-system-s39"):
                    return
            monitor = Monitor(pid)
            if monitor.cluster == self._cluster and monitor.guest:
                self._monitors[pid] = monitor
                self._others.pop(pid)

    def _forget(self, pid: int) -> None:
        monitor = self._monitors.pop(pid, None)
        if monitor:
            monitor.close()


class Queues(threading.Thread):
    """Looks at the queues, beside the other looks."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(daemon=True)
        self._watch = watch
        self.looks = 0

    def run(self) -> None:
        """Look until the process ends."""
        before: dict[str, dict[str, list[str]]] = {}
        while True:
            for node, root in self._watch.nodes().items():
                with suppress(OSError):
                    owners = queue_owners(root)
                    self.looks += 1
                    if owners != before.get(node):
                        before[node] = owners
                        _say({"t": time.time(), "node": node, "queues": owners})
                    if doubtful := _shared(owners):
                        for queue in doubtful & _shared(queue_owners(root)):
                            _say({"t": time.time(), "node": node, "shared": queue, "owners": owners[queue]})
            time.sleep(1)


def _shared(owners: dict[str, list[str]]) -> set[str]:
    return {queue for queue, found in owners.items() if len(found) > 1}


def main(argv: list[str]) -> int:
    """Watch until SIGTERM."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    watch = Watch(argv[1])
    queues = Queues(watch)
    queues.start()
    begin, looks, longest, before = time.time(), 0, 0.0, None
    last = begin
    while not ended:
        now = time.time()
        longest, last = max(longest, now - last), now
        seen, twice = watch.look()
        looks += 1
        if seen != before:
            _say({"t": now, "guests": seen})
            before = seen
        for guest in twice:
            _say({"t": now, "twice": guest})
        time.sleep(max(0.0, INTERVAL - (time.time() - now)))
    _say(
        {
            "t": time.time(),
            "looks": looks,
            "seconds": time.time() - begin,
            "longest": longest,
            "queue_looks": queues.looks,
        }
    )
    return 0


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

# SPDX-License-Identifier: Apache-2.0
"""The watcher's process, and what its log says: where each guest ran, and when on no or on two hosts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.namespace import environment

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from lab.lab import Lab


MARK = "/run/apvfio-node"
"""Where a node has its name, and the watcher's directory."""
WATCHED = "/var/lib/libvirt/watched"
"""The directory in which QEMU makes a monitor for the watcher."""


def have_watched(lab: Lab, name: str, directory: Path) -> None:
    """Let the watcher with that ``directory`` see the guests of ``lab`` as those of the node ``name``."""
    watched = Path(f"{lab.work}{WATCHED}")
    watched.mkdir(parents=True)
    watched.chmod(0o1777)  # QEMU is nobody in particular
    done = lab.run(["tee", MARK], stdin=f"{name} {directory}\n")
    assert done.returncode == 0, done.stderr


class Change(NamedTuple):
    """From a moment on a guest's processors run on a node, or on none."""

    t: float
    node: str | None


class Looks(NamedTuple):
    """How well was looked."""

    number: int
    seconds: float
    longest: float
    """The longest time between two looks."""
    queues: int
    """How often the queues of a node were read."""

    @property
    def rate(self) -> float:
        """Looks in a second."""
        return self.number / self.seconds


class Watcher:
    """The watcher, between ``with`` and its end."""

    def __init__(self, cluster: Path) -> None:
        self._cluster = cluster
        self._log = cluster / "watcher.jsonl"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            words = [sys.executable, "-m", "cluster.watcher", str(self._cluster)]
            self._process = subprocess.Popen(words, stdout=log, env=environment())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)

    def where(self) -> dict[str, list[str]]:
        """The nodes on which each guest's processors run now."""
        assert self._process.poll() is None, "the watcher has ended"
        seen: dict[str, dict[str, str]] = {}
        for line in self._lines():
            seen = line.get("guests", seen)
        return {guest: nodes for guest in seen if (nodes := _running(seen[guest]))}

    def history(self, guest: str, since: float = 0.0) -> list[Change]:
        """Where the guest's processors ran from ``since`` on, the node before that first."""
        changes: list[Change] = []
        for line in self._lines():
            if "guests" not in line:
                continue
            nodes = _running(line["guests"].get(guest, {}))
            change = Change(line["t"], nodes[0] if nodes else None)
            if not changes or changes[-1].node != change.node:
                changes.append(change)
        first = max((i for i, change in enumerate(changes) if change.t <= since), default=0)
        return changes[first:]

    def without(self, guest: str, since: float) -> float:
        """The longest time after ``since`` in which the guest ran nowhere, in seconds."""
        changes = self.history(guest, since)
        ends = [change.t for change in changes[1:]] + [time.time()]
        return max((end - max(one.t, since) for one, end in zip(changes, ends) if not one.node), default=0.0)

    def was_always_there(self, guest: str, since: float) -> bool:
        """Whether the guest had a QEMU at each moment: so it has been migrated, and not started anew."""
        lines = [line for line in self._lines() if "guests" in line and line["t"] >= since]
        return all(guest in line["guests"] for line in lines)

    def twice(self, since: float = 0.0) -> list[tuple[float, str]]:
        """When which guest's processors ran on two hosts."""
        found = [(line["t"], line["twice"]) for line in self._lines() if "twice" in line]
        return [(t, guest) for t, guest in found if t >= since]

    def shared(self) -> list[tuple[float, str, str]]:
        """When which queue of which node had two owners."""
        return [(line["t"], line["node"], line["shared"]) for line in self._lines() if "shared" in line]

    def looks(self) -> Looks:
        """How often it has looked; to be asked after its end."""
        last = self._lines()[-1]
        return Looks(last["looks"], last["seconds"], last["longest"], last["queue_looks"])

    def _lines(self) -> list[dict[str, Any]]:
        text = self._log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _running(seen: dict[str, str]) -> list[str]:
    return sorted(node for node, status in seen.items() if status == "running")

# SPDX-License-Identifier: Apache-2.0
"""A real cluster of one node, corosync and Pacemaker, in namespaces of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.mdev import programs
from apvfio.model.errors import HostError
from cluster.corosync import write_configuration

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

CHECKOUT = Path(__file__).parents[2]
NAME = "n1"
SCRIPT = Path(__file__).with_name("node.sh")
_PROGRAMS = ("unshare", "nsenter", "corosync", "pacemakerd", "cibadmin", "crm_attribute", "crm_mon")
_NAMESPACES = ("--mount", "--net", "--uts", "--pid", "--ipc")
_PATIENCE = 60.0


class OneNode:
    """The cluster, between ``with`` and its end. HostError if there can be none here."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def __enter__(self) -> Self:
        if os.geteuid():
            raise HostError("a cluster needs the rights of root.")
        missing = [name for name in _PROGRAMS if programs.find(name) is None]
        if missing:
            raise HostError(f"not installed: {', '.join(missing)}.")
        words = ["unshare", *_NAMESPACES, "--propagation=private", "--fork", "--kill-child"]
        words += [str(SCRIPT), str(self.work), str(CHECKOUT), NAME]
        write_configuration(self.work, {NAME: "127.0.0.1"})
        with (self.work / "node.out").open("wb") as log:
            self._outer = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self.wait((self.work / "up").exists, "the node's script")
            (child,) = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            self._first = child
            self.wait(lambda: "\tonline" in self.state() or "Online: [ n1 ]" in self.state(), "the node")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command on the node; what it prints."""
        inside = ["nsenter", f"--target={self._first}", *_NAMESPACES, "--", *words]
        done = subprocess.run(
            inside,
            env={"PATH": programs.PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def state(self) -> str:
        """What crm_mon shows, with the nodes' attributes."""
        return self.run("crm_mon", "-1", "-A", check=False)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> None:
        """Wait until ``condition`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {seconds} s"
            assert self._outer.poll() is None, (self.work / "node.out").read_text()
            time.sleep(0.2)

    def _end(self) -> None:
        self._outer.kill()
        self._outer.wait(20)
        shutil.rmtree(self.work / "fs", ignore_errors=True)

# SPDX-License-Identifier: Apache-2.0
"""A node with a simulated host: a lab with libvirtd and the hook, sshd, corosync and Pacemaker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from apvfio.mdev import programs
from apvfio.model.mask_grammar import parse_list
from apvfio.sim.kernel import SimKernel
from cluster.one_node import CHECKOUT, SCRIPT
from cluster.watching import have_watched
from lab.hook import hook_script
from lab.lab import Lab
from migration_env import make_migratable

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from cluster.switch import Switch

GUESTS = "/etc/apvfio/guests"
_ADAPTERS = {0: "accel", 1: "cca", 10: "ep11"}
KEY = "a1" * 16 + "00" * 16
_PATIENCE = 60.0


def a_host(domains: str, adapters: dict[int, str] | None = None) -> SimKernel:
    """A host that has just booted, whose ep11 queues all have the master key `KEY`."""
    adapters = _ADAPTERS if adapters is None else adapters
    kernel = SimKernel.new(adapters=adapters, domains=parse_list(domains))
    for queue, state in kernel.state.queues.items():
        if adapters[queue.adapter] == "ep11":
            state.mkvps = f"WK CUR: valid 0x{KEY}\nWK NEW: empty -"
    return kernel


class LabNode:
    """The node; it has power from `power_on` to `cut_power`. What it has on its disk is in ``work``."""

    def __init__(self, name: str, address: str, domains: str, work: Path, switch: Switch) -> None:
        self.name = name
        self.address = address
        self.adapters: dict[int, str] = dict(_ADAPTERS)
        """What the host has of adapters at its next boot."""
        self.guests: dict[str, str] = {}
        """The files in the directory of guests at the next boot."""
        self.environment: dict[str, str] = {}
        """More variables for the daemons."""
        self._domains = domains
        self._work = work
        self._switch = switch
        self._lab: Lab | None = None
        self._crashed = False
        self._lock = threading.Lock()

    @property
    def on(self) -> bool:
        """Whether it has power, as the HMC sees it: a host that has crashed has."""
        return self._lab is not None or self._crashed

    @property
    def runs(self) -> bool:
        """Whether anything runs on it."""
        return self._lab is not None

    @property
    def lab(self) -> Lab:
        """Its lab, if it runs."""
        assert self._lab, f"{self.name} does not run"
        return self._lab

    def power_on(self) -> None:
        """Boot it; nothing if it runs."""
        with self._lock:
            if self._lab is not None:
                return
            self._crashed = False
            lab = Lab(hook_script(), kernel=a_host(self._domains, self.adapters))
            lab.__enter__()
            self._lab = lab
            try:
                self._boot(lab)
            except BaseException:
                self._lab = None
                lab.__exit__(None, None, None)
                raise

    def _boot(self, lab: Lab) -> None:
        self._switch.plug(self.name, lab.network, self.address)
        have_watched(lab, self.name, self._work.parent)
        self.sh(f"mkdir -p {GUESTS}; hostname {self.name}")
        for name, text in self.guests.items():
            self.write(f"{GUESTS}/{name}.xml", text)
        make_migratable(lab)
        words = [str(SCRIPT), str(self._work), str(CHECKOUT), self.name, "lab"]
        done = lab.run(words, _PATIENCE, env={**self.environment, "PYTHONPATH": ""})
        assert done.returncode == 0, done.stderr

    def cut_power(self) -> None:
        """Take its power away; nothing if it has none."""
        self._kill(crashed=False)

    def crash(self) -> None:
        """Kill all that runs on it at once; the HMC does not notice."""
        self._kill(crashed=True)

    def _kill(self, *, crashed: bool) -> None:
        with self._lock:
            self._crashed = crashed
            lab, self._lab = self._lab, None
            if lab is not None:
                lab.cut_power()

    def run(self, *words: str, check: bool = True, stdin: str = "", timeout: float = _PATIENCE) -> str:
        """Run a command on the node; what it prints."""
        done = self.result(*words, stdin=stdin, timeout=timeout)
        assert not check or done.returncode == 0, (self.name, words, done.stdout, done.stderr)
        return done.stdout

    def result(self, *words: str, stdin: str = "", timeout: float = _PATIENCE) -> CompletedProcess[str]:
        """Run a command on the node, however it ends."""
        env = {"PATH": programs.PATH, "PYTHONPATH": ""}
        return self.lab.run(words, timeout, stdin=stdin, env=env)

    def sh(self, script: str) -> str:
        """Run a script of the shell's on the node."""
        return self.run("sh", "-euc", script)

    def write(self, path: str, text: str) -> None:
        """Write a file on the node."""
        self.run("tee", path, stdin=text)

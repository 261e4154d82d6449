# SPDX-License-Identifier: Apache-2.0
"""The lab's libvirtd, with the shipped hook, as the environment of the cases that tiers share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from lab.guest import guest_xml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from subprocess import CompletedProcess

    from apvfio.model.matrix import Matrix
    from lab.lab import Lab


class MakeLab(Protocol):
    """Makes labs."""

    def __call__(self, hook: str | None) -> AbstractContextManager[Lab]:
        """A lab whose libvirt has the script ``hook``."""


class LabEnv:
    """A lab."""

    python = sys.executable
    starts_quickly = True

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.system = lab.host()
        self.path = lab.path
        self.start_daemon = lab.libvirtd.start
        self.stop_daemon = lab.libvirtd.stop
        self.crash_daemon = lab.libvirtd.crash
        self.reload_daemon = lab.libvirtd.reload
        self._names: list[str] = []

    def virsh(self, *words: str, check: bool = True, stdin: str = "") -> CompletedProcess[str]:
        done = self.lab.virsh(*words, stdin=stdin, timeout=60.0)
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(self, argv: Sequence[str], *, stdin: str = "") -> CompletedProcess[str]:
        return self.lab.run(argv, 60.0, stdin=stdin)

    def apvfio(self, *words: str) -> CompletedProcess[str]:
        """Run our command in the lab, where /sys is the simulated host's."""
        return self.run([self.python, "-m", "apvfio", *words])

    def xml(self, name: str, requested: Matrix | None, device: str | None) -> str:
        return guest_xml(name, requested, device or "")

    def define(self, name: str, requested: Matrix | None, device: str | None) -> None:
        self.define_xml(name, self.xml(name, requested, device))

    def define_xml(self, name: str, xml: str) -> None:
        done = self.lab.define(xml)
        assert done.returncode == 0, done.stderr
        self._names.append(name)

    def clean(self) -> None:
        for name in self._names:
            self.virsh("destroy", name, check=False)
            self.virsh("undefine", "--managed-save", name, check=False)
        self._names.clear()

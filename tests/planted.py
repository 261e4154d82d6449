# SPDX-License-Identifier: Apache-2.0
"""A real tree of files before a simulated kernel, in which tests plant what should not be there."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from apvfio.definitions import FOLDER
from apvfio.sim.kernel import SimKernel
from apvfio.system import RealSystem
from hosts import IBM_DOMAINS

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "nobody may read or change this\n"


class Planted:
    """A real tree of files before a simulated kernel, and a file elsewhere that must not be touched."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "host"
        self.victim = directory / "victim"
        self.victim.write_text(SECRET)
        self.victim.chmod(0o640)
        self.elsewhere = directory / "elsewhere"
        self.elsewhere.mkdir(0o700)
        self.root.mkdir()
        for below in ("run/lock", "etc/apvfio", "etc/udev/rules.d", FOLDER):
            (self.root / below).mkdir(parents=True)
        (self.root / "run/apvfio").mkdir(0o700)
        self.kernel = SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
        self.system = RealSystem(str(self.root))
        self.system.sysfs = self.kernel

    def path(self, path: str) -> Path:
        return self.root / path

    def untouched(self) -> bool:
        """Whether the file and the directory elsewhere are as they were."""
        return (
            self.victim.read_text() == SECRET
            and stat.S_IMODE(self.victim.stat().st_mode) == 0o640
            and list(self.elsewhere.iterdir()) == []
            and stat.S_IMODE(self.elsewhere.stat().st_mode) == 0o700
        )

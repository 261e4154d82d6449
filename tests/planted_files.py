# SPDX-License-Identifier: Apache-2.0
"""A real tree of files before a simulated kernel, in which tests plant what should not be there."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from apvfio.sim.kernel import SimKernel
from apvfio.store.definitions import FOLDER
from apvfio.store.system import RealSystem
from hosts import IBM_DOMAINS

if TYPE_CHECKING:
    from pathlib import Path

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, make devices and mount")
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


def link(path: Path, planted: Planted) -> None:
    path.symlink_to(planted.victim)


def dangling(path: Path, planted: Planted) -> None:
    path.symlink_to(planted.elsewhere / "new")


def loop(path: Path, _: Planted) -> None:
    path.symlink_to(path.name)


def hard_link(path: Path, planted: Planted) -> None:
    os.link(planted.victim, path)


def directory_link(path: Path, planted: Planted) -> None:
    path.symlink_to(planted.elsewhere)


def directory(path: Path, _: Planted) -> None:
    path.mkdir()
    (path / "x").write_text("x")


def fifo(path: Path, _: Planted) -> None:
    os.mkfifo(path)


def unix_socket(path: Path, _: Planted) -> None:
    before = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


def device(path: Path, _: Planted) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: it has no end


KINDS = [
    link,
    dangling,
    loop,
    hard_link,
    directory_link,
    directory,
    fifo,
    unix_socket,
    pytest.param(device, marks=ROOT),
]
"""Each puts something into a place; what it might lead to is ``planted``'s."""

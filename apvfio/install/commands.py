# SPDX-License-Identifier: Apache-2.0
"""What the programs of a host must be told when files of ours come or go."""

from __future__ import annotations

import os
from typing import NamedTuple

from apvfio.install import programs
from apvfio.install.contents import HOOK, PATH_UNIT, PREPARE_UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.install.contents import Choices

_SELINUX = "/sys/fs/selinux"
_BOOTED = "/run/systemd/system"
"""There if systemd is the init of this machine (sd_booted(3))."""


class Command(NamedTuple):
    """One command, and why."""

    words: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return " ".join(self.words)

    def as_json(self) -> dict[str, object]:
        """The command as ``install --json`` prints it."""
        return {"command": list(self.words), "why": self.why}


def after_install(choices: Choices) -> list[Command]:
    """What makes the new files known; only what this machine has."""
    return [command for command in _after_install(choices) if programs.find(command.words[0])]


def before_uninstall() -> list[Command]:
    """What stops whoever uses the files."""
    if not programs.find("systemctl"):
        return []
    now = ("--now",) if os.path.isdir(_BOOTED) else ()
    return [
        Command(("systemctl", "disable", *now, PATH_UNIT, PREPARE_UNIT), "nothing starts apvfio any more")
    ]


def after_uninstall() -> list[Command]:
    """What makes known that the files are gone."""
    return [command for command in _reloads() if programs.find(command.words[0])]


def enabled() -> bool:
    """Whether systemd starts our units; True where there is no systemd."""
    if not programs.find("systemctl"):
        return True
    code, _ = programs.run(["systemctl", "is-enabled", "-q", PATH_UNIT, PREPARE_UNIT])
    return code == 0


def _after_install(choices: Choices) -> Iterator[Command]:
    if os.path.isdir(_SELINUX):
        yield Command(
            ("restorecon", "-R", os.path.dirname(f"/{HOOK}")), "SELinux knows the hook by its label"
        )
    tmpfiles = f"{choices.prefix}/lib/tmpfiles.d/apvfio.conf"
    yield Command(("systemd-tmpfiles", "--create", tmpfiles), "/run/apvfio is there")
    yield from _reloads()
    now = ("--now",) if os.path.isdir(_BOOTED) else ()
    yield Command(("systemctl", "enable", *now, PATH_UNIT), "slow releases are finished in the background")
    yield Command(("systemctl", "enable", PREPARE_UNIT), "AP queues are ready before guests start")


def _reloads() -> Iterator[Command]:
    if os.path.isdir(_BOOTED):
        yield Command(("systemctl", "daemon-reload"), "systemd reads its units anew")
        yield Command(("udevadm", "control", "--reload"), "udev reads its rules anew")

# SPDX-License-Identifier: Apache-2.0
"""The commands that make a host's programs notice installed or removed files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from apvfio.install.installed_files import HOOK, METRICS_TIMER, PATH_UNIT, PREPARE_UNIT
from apvfio.mdev import programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.install.installed_files import Choices

_SELINUX = "/sys/fs/selinux"
_UDEV = "/run/udev/control"
"""udev's socket; in a container nothing listens there."""


class Command(NamedTuple):
    """One command, and why."""

    words: tuple[str, ...]
    why: str
    may_fail: bool = False
    """Whether it does no harm if there is nothing left for it to do."""

    def __str__(self) -> str:
        return " ".join(self.words)

    def as_json(self) -> dict[str, object]:
        """The command as ``install --json`` prints it."""
        return {"command": list(self.words), "reason": self.why}


_UNITS = "/systemd/system/"
"""In the path of a unit's file."""


def booted() -> bool:
    """Whether systemd is the init of this machine (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def after_install(choices: Choices, paths: Iterable[str]) -> list[Command]:
    """Return the commands that make the files at ``paths`` known to this machine's programs."""
    commands = list(_after_install(choices, running=booted()))
    if os.path.isdir(_SELINUX):
        # A new file has the label of the directory where it was written, not of the one where it is.
        hooks, others = os.path.dirname(f"/{HOOK}"), [f"/{path}" for path in paths if path != HOOK]
        commands.insert(0, Command(("restorecon", "-R", hooks, *others), "SELinux goes by labels"))
    return _possible(commands)


def before_removal(paths: Iterable[str]) -> list[Command]:
    """What stops, on this machine, the units among the files at ``paths``; nobody else's."""
    units = {os.path.basename(path): path for path in paths if _UNITS in f"/{path}"}
    ours = [unit for unit in (*_ENABLED, METRICS_TIMER) if unit in units]
    there = [unit for unit in ours if os.path.lexists(f"/{units[unit]}")]
    gone = [unit for unit in ours if unit not in there]
    commands = [_disable(there, running=booted())] if there else []
    if gone:
        # For a unit without a file 'disable --now' fails before it stops the unit.
        verbs = ("stop", "disable") if booted() else ("disable",)
        commands += [Command(("systemctl", verb, *gone), "the unit's file is gone", True) for verb in verbs]
    return _possible(commands)


def after_removal(paths: Iterable[str]) -> list[Command]:
    """What makes known, on this machine, that the files at ``paths`` are gone."""
    return _possible(_reloads(paths) if booted() else ())


def of_package(choices: Choices) -> dict[str, list[Command]]:
    """What a package's scripts run, and when; labels are the package manager's business."""
    return {
        "after installation": list(_after_install(choices, running=True)),
        "before removal": [_disable((*_ENABLED, METRICS_TIMER), running=True)],
        "after removal": [command for _, command in _RELOADS],
    }


def enabled() -> bool:
    """Whether systemd starts our units; True where there is no systemd."""
    if not programs.find("systemctl"):
        return True
    # If asked about both at once, systemctl succeeds if one of them is.
    return all(programs.ask(["systemctl", "is-enabled", "-q", unit])[0] == 0 for unit in _ENABLED)


_ENABLED = (PATH_UNIT, PREPARE_UNIT)


def _after_install(choices: Choices, *, running: bool) -> Iterator[Command]:
    tmpfiles = f"{choices.prefix}/lib/tmpfiles.d/apvfio.conf"
    yield Command(("systemd-tmpfiles", "--create", tmpfiles), "/run/apvfio is there")
    now = ("--now",) if running else ()
    if running:
        yield from (command for _, command in _RELOADS)
    yield Command(
        ("systemctl", "enable", *now, *_ENABLED),
        "queues are ready before guests start, slow returns are finished in the background",
    )


def _disable(units: Iterable[str], *, running: bool) -> Command:
    now = ("--now",) if running else ()
    return Command(("systemctl", "disable", *now, *units), "nothing starts apvfio any more")


_RELOADS = (
    (_UNITS, Command(("systemctl", "daemon-reload"), "systemd reads its units again")),
    ("/rules.d/", Command(("udevadm", "control", "--reload"), "udev reads its rules again")),
    ("/catalog/", Command(("journalctl", "--update-catalog"), "journalctl -x explains apvfio's entries")),
)
"""The commands to run when a file whose path has such a part is installed or removed."""


def _reloads(paths: Iterable[str]) -> list[Command]:
    changed = [f"/{path}" for path in paths]
    return [command for part, command in _RELOADS if any(part in path for path in changed)]


def _possible(commands: Iterable[Command]) -> list[Command]:
    """Return the commands whose programs are on this machine."""
    absent = set() if os.path.exists(_UDEV) else {"udevadm"}
    return [c for c in commands if programs.find(c.words[0]) and c.words[0] not in absent]

# SPDX-License-Identifier: Apache-2.0
"""apvfio on a simulated host, of which single commands are made to hang, to die or to answer nonsense."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cockpit_env import on_simulated_host

if TYPE_CHECKING:
    from simulated_host import SimulatedHost

GUESTS, WATCH, MASKS, PLAN, DEED = "guests", "watch", "masks", "plan", "deed"
"""What can be spoilt: the three commands by which the page looks, and the two by which it changes a host."""

_SCRIPT = """\
#!/bin/sh
here={here}
case "$*" in
*--dry-run*) what=plan ;;
*--if-state*) what=deed ;;
'guest list'*) what=guests ;;
'status --watch'*) what=watch ;;
*) what=masks ;;
esac
echo "$what" >>"$here/asked"
[ ! -e "$here/$what" ] || exec sh "$here/$what" "$@"
exec {apvfio} "$@"
"""


class SpoiltAnswers:
    """The command, and what has become of it."""

    def __init__(self, directory: Path, host: SimulatedHost) -> None:
        self.directory = directory
        words, env = on_simulated_host(host.path)
        apvfio = ["env", *(f"{name}={value}" for name, value in env.items()), *words]
        script = directory / "apvfio"
        script.write_text(_SCRIPT.format(here=shlex.quote(str(directory)), apvfio=shlex.join(apvfio)))
        script.chmod(0o755)
        self.command = [str(script)]

    def spoil(self, what: str, script: str) -> None:
        """Have a shell's ``script`` run in the place of that command from now on."""
        new = self.directory / "new"
        new.write_text(f"{script}\n")
        new.replace(self.directory / what)

    def answer(self, what: str, text: str, code: int = 0) -> None:
        """Have that command print ``text`` as it is."""
        (self.directory / f"{what}.text").write_text(text)
        self.spoil(what, f'cat "{self.directory}/{what}.text"; exit {code}')

    def repair(self, what: str) -> None:
        """Have apvfio itself answer again."""
        (self.directory / what).unlink()

    def asked(self, what: str) -> int:
        """How many commands of that kind have been given."""
        return (self.directory / "asked").read_text().split().count(what)

    def running(self, what: str) -> list[int]:
        """The spoilt commands of that kind that run.

        A child that a shell has forked has the shell's words until it runs its own program: it is no command.
        """
        word = str(self.directory / what).encode()
        running = {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and word in _words(pid)}
        return sorted(pid for pid in running if _parent(pid) not in {None, *running})


def _words(pid: str) -> list[bytes]:
    try:
        return Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended meanwhile
        return []


def _parent(pid: int) -> int | None:
    try:
        return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return None

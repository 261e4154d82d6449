# SPDX-License-Identifier: Apache-2.0
"""Commands to paste, written for the host that is examined."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ids import format_list

if TYPE_CHECKING:
    from apvfio.model.matrix import Area

SYSTEM_URI = "qemu:///system"


class Words(NamedTuple):
    """Words that direct a command at the examined host.

    Writes to a simulated host's /sys are meant for the host of which it is a copy.
    """

    sim: str = ""
    root: str = "/"
    connect: str = SYSTEM_URI

    def apvfio(self, *words: str) -> str:
        """A command of ours."""
        place = ["--sim", self.sim] if self.sim else ["--root", self.root] if self.root != "/" else []
        return shlex.join(["apvfio", *place, *words])

    def about(self, command: str, guest: str, *words: str) -> str:
        """A command of ours about one of libvirt's guests."""
        connect = [] if self.connect == SYSTEM_URI else ["--connect", self.connect]
        return self.apvfio(*command.split(), *words, *connect, *_named(guest))

    def virsh(self, verb: str, guest: str = "", *words: str) -> str:
        """A command of libvirt's, about a guest if one is named."""
        name = [f"--domain={guest}"] if guest.startswith("-") else [guest] if guest else []
        connect = [] if self.connect == SYSTEM_URI else ["-c", self.connect]
        return shlex.join(["virsh", *connect, verb, *name, *words])

    def end_of_drain(self, area: Area) -> str:
        """Restore one drain, and no other: its area is named as when it was drained."""
        named = ("--adapter", format_list(area.adapters)), ("--domain", format_list(area.domains))
        words = [word for option, ids in named if ids for word in (option, ids)] or ["--all"]
        return self.apvfio("drain", "--restore", *words)

    def path(self, path: str) -> str:
        """A file of the host."""
        root = "" if self.sim else self.root.rstrip("/")
        return shlex.quote(f"{root}/{path}")

    def echo(self, value: str, path: str) -> str:
        """Write ``value`` to an attribute below /sys; a line end alone if it is empty."""
        value = f"{shlex.quote(value)} " if value else ""
        return f"echo {value}> {self.path(f'sys/{path}')}"

    def edit(self, path: str) -> str:
        """Open a file in whatever the administrator likes to edit with."""
        return f"${{EDITOR:-vi}} {self.path(path)}"


def _named(guest: str) -> list[str]:
    """A guest's name as the last of our words; it may look like an option."""
    return ["--", guest] if guest.startswith("-") else [guest] if guest else []

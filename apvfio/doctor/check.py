# SPDX-License-Identifier: Apache-2.0
"""The result of one check, and the commands that solve its problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.doctor.catalogue import GROUP_OF
from apvfio.model.errors import Exit, printable
from apvfio.model.matrix import Apqn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.model.errors import ApvfioError

OK = "ok"
WARNING = "warning"
"""It stops no start, or only perhaps."""
PROBLEM = "problem"
"""It stops guests, or the guest that was named, from getting their queues."""
SKIPPED = "skipped"
"""It could not be looked at; the sentence says why."""

_LONGEST = 1000


class Check(NamedTuple):
    """One finding; the group is that of its id in the catalogue."""

    id: str
    state: str
    sentence: str
    remedy: str = ""
    """The remedy, in a sentence."""
    commands: tuple[str, ...] = ()
    """The same as lines for a shell."""
    code: int = Exit.HOST
    """The exit code if this is the first problem."""
    guest: str = ""
    """The guest it is about: untrusted text."""
    queues: tuple[Apqn, ...] = ()

    @property
    def group(self) -> str:
        """Where the catalogue has it."""
        return GROUP_OF[self.id]

    @property
    def text(self) -> str:
        """The sentence, with the guest, fit for one line of a terminal."""
        who = f"guest {printable(self.guest)}: " if self.guest else ""
        return f"{who}{printable(self.sentence, _LONGEST)}"

    def as_json(self) -> dict[str, object]:
        """The check as ``doctor --json`` prints it."""
        return {
            "id": self.id,
            "group": self.group,
            "state": self.state,
            "message": self.sentence,
            "remedy": self.remedy or None,
            "commands": list(self.commands),
            "guest": self.guest or None,
            "queues": [str(queue) for queue in self.queues],
        }


def ok(name: str, sentence: str) -> Check:
    """It is as it should be."""
    return Check(name, OK, sentence)


def skipped(name: str, why: str) -> Check:
    """It was not looked at."""
    return Check(name, SKIPPED, f"not checked: {why}")


def warning(name: str, sentence: str, remedy: str, *commands: str, queues: Iterable[Apqn] = ()) -> Check:
    """It is not as it should be."""
    return Check(name, WARNING, sentence, remedy, commands, queues=tuple(sorted(queues)))


def problem(
    name: str, sentence: str, remedy: str, *commands: str, code: int = Exit.HOST, queues: Iterable[Apqn] = ()
) -> Check:
    """It stops a start."""
    return Check(name, PROBLEM, sentence, remedy, commands, code, queues=tuple(sorted(queues)))


def of_error(name: str, error: ApvfioError, *commands: str) -> Check:
    """What a start would be refused with. A failure without a code of its own is the host's."""
    code = Exit.HOST if error.code in (Exit.FAILURE, Exit.USAGE) else error.code
    queues = map(Apqn._make, error.queues)
    return problem(name, error.sentence, error.remedy, *commands, code=code, queues=queues)

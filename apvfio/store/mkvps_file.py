# SPDX-License-Identifier: Apache-2.0
"""What queues showed of their master keys when the host had them last, in /run/apvfio/mkvps.

One line for each reading: the time, the queue, and the registers that were shown, with semicolons between
them. A reading is one line more, added by one write and without a lock; the last line of a queue counts.
`forget` and `tidy` write the file anew, under the lock. What cannot be understood is left out, and what
cannot be written is not remembered: nothing here keeps a guest from starting. The ledger, which every start
reads, has none of it.
"""

from __future__ import annotations

import time

from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError
from apvfio.model.matrix import Apqn
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from apvfio.kernel.seam import Files

MKVPS = "run/apvfio/mkvps"
FULL = 1 << 20
"""Bytes from which `tidy` writes the file anew: all queues of a full host take some 400 KiB."""
_OVERFULL = 4 * FULL
_TIME = "%Y-%m-%dT%H:%M:%S.000+00:00"
"""As every ``--json`` writes times."""
_TIME_LENGTH = len("2026-01-31T11:00:00.000+00:00")
_LONGEST = 1000
_UNANSWERED = ": - -"
"""What a register ends with of which no card has told the state (cex:cca_mkvps_show, ep11_mkvps_show)."""
_BETWEEN = "; "


class Reading(NamedTuple):
    """What one queue showed, and when."""

    seen: str
    """ISO 8601 in UTC, with the offset."""
    registers: str
    """The lines of ``mkvps`` whose state was known."""


def now() -> str:
    """Return the time that it is, in the form of `Reading.seen`."""
    return time.strftime(_TIME, time.gmtime())


def load(files: Files) -> dict[Apqn, Reading]:
    """Return the last reading of each queue; ApvfioError if the file cannot be read."""
    found = {}
    for line in (files.read(MKVPS) or "").splitlines():
        seen, _, rest = line.partition(" ")
        name, _, registers = rest.partition(" ")
        queue = Apqn.parse(name)
        if queue and _is_time(seen) and registers.isprintable() and 0 < len(registers) <= _LONGEST:
            found[queue] = Reading(seen, registers.replace(_BETWEEN, "\n"))
    return found


def add(files: Files, texts: Mapping[Apqn, str]) -> bool:
    """Remember ``texts``, what the ``mkvps`` of queues shows now, but for those that do not answer.

    Returned is whether there was anything.
    """
    seen = now()
    lines = []
    for queue, text in texts.items():
        registers = answered(text)
        if registers:
            lines.append(f"{seen} {queue} {registers.replace(chr(10), _BETWEEN)}\n")
    with suppress(ApvfioError):
        if lines and files.size(MKVPS) <= _OVERFULL:
            files.append(MKVPS, "".join(lines))
    return bool(lines)


def answered(text: str) -> str:
    """Return the lines of ``text``, the ``mkvps`` of a queue, whose register's state a card has told."""
    return "\n".join(line for line in text.splitlines() if line and not line.endswith(_UNANSWERED))


def tidy(files: Files) -> None:
    """Leave one line for each queue in a file that is `FULL`; under the lock."""
    with suppress(ApvfioError):
        if files.size(MKVPS) > FULL:
            files.write(MKVPS, _text(load(files)))


def forget(files: Files, queues: Collection[Apqn] | None = None) -> dict[Apqn, Reading]:
    """Forget what ``queues``, None for all, have shown, and return it; ApvfioError. Under the lock."""
    there = load(files)
    gone = {queue: reading for queue, reading in there.items() if queues is None or queue in queues}
    left = {queue: reading for queue, reading in there.items() if queue not in gone}
    files.write(MKVPS, _text(left))
    return gone


def _text(table: Mapping[Apqn, Reading]) -> str:
    lines = (
        f"{seen} {queue} {registers.replace(chr(10), _BETWEEN)}\n"
        for queue, (seen, registers) in table.items()
    )
    return "".join(lines)


def _is_time(text: str) -> bool:
    return len(text) == _TIME_LENGTH and text.isascii() and text[:4].isdigit() and text.endswith("+00:00")

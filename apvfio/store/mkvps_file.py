# SPDX-License-Identifier: Apache-2.0
"""The verification patterns that queues showed while the host had them, in /run/apvfio/mkvps.

One line for each reading has the time, the queue, and the registers that were shown, with semicolons between
them. A reading adds one line, by one write and without a lock; the last line of a queue counts. `forget` and
`tidy` rewrite the file, under the lock. Lines that cannot be understood are left out, and what cannot be
written is not remembered: this file never keeps a guest from starting. The ledger, which every start reads,
has none of it.
"""

from __future__ import annotations

from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError
from apvfio.model.matrix import Apqn
from apvfio.model.typed import NamedTuple
from apvfio.store.mkvps_note import BETWEEN, FULL, MKVPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from apvfio.kernel.seam import Files

_TIME_LENGTH = len("2026-01-31T11:00:00.000+00:00")
_LONGEST = 1000


class Reading(NamedTuple):
    """What one queue showed, and when."""

    seen: str
    """ISO 8601 in UTC, with the offset."""
    registers: str
    """The lines of ``mkvps`` whose state was known."""


def load(files: Files) -> dict[Apqn, Reading]:
    """Return the last reading of each queue; ApvfioError if the file cannot be read."""
    found = {}
    for line in (files.read(MKVPS) or "").splitlines():
        seen, _, rest = line.partition(" ")
        name, _, registers = rest.partition(" ")
        queue = Apqn.parse(name)
        if queue and _is_time(seen) and registers.isprintable() and 0 < len(registers) <= _LONGEST:
            found[queue] = Reading(seen, registers.replace(BETWEEN, "\n"))
    return found


def tidy(files: Files) -> None:
    """Leave one line for each queue in a file that is `FULL`; under the lock."""
    with suppress(ApvfioError):
        if files.size(MKVPS) > FULL:
            files.write(MKVPS, _text(load(files)))


def forget(files: Files, queues: Collection[Apqn] | None = None) -> dict[Apqn, Reading]:
    """Forget the patterns of ``queues``, None for all; return them. ApvfioError. Under the lock."""
    there = load(files)
    gone = {queue: reading for queue, reading in there.items() if queues is None or queue in queues}
    left = {queue: reading for queue, reading in there.items() if queue not in gone}
    files.write(MKVPS, _text(left))
    return gone


def _text(table: Mapping[Apqn, Reading]) -> str:
    lines = (
        f"{seen} {queue} {registers.replace(chr(10), BETWEEN)}\n"
        for queue, (seen, registers) in table.items()
    )
    return "".join(lines)


def _is_time(text: str) -> bool:
    return len(text) == _TIME_LENGTH and text.isascii() and text[:4].isdigit() and text.endswith("+00:00")

# SPDX-License-Identifier: Apache-2.0
"""Add a line to /run/apvfio/mkvps: all that a start does with that file (`apvfio.store.mkvps_file`)."""

from __future__ import annotations

import time

from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.kernel.seam import Files
    from apvfio.model.matrix import Apqn

MKVPS = "run/apvfio/mkvps"
FULL = 1 << 20
"""Bytes from which `tidy` rewrites the file: all queues of a full host take some 400 KiB."""
_OVERFULL = 4 * FULL
_TIME = "%Y-%m-%dT%H:%M:%S.000+00:00"
"""As every ``--json`` writes times."""
_UNANSWERED = ": - -"
"""What a register ends with of which no card has told the state (cex:cca_mkvps_show, ep11_mkvps_show)."""
BETWEEN = "; "
_LINE_FEED = "\n"


def now() -> str:
    """Return the time that it is, in the form of `apvfio.store.mkvps_file.Reading`."""
    return time.strftime(_TIME, time.gmtime())


def add(files: Files, texts: Mapping[Apqn, str]) -> bool:
    """Remember ``texts``, the present ``mkvps`` of queues, except those that do not answer.

    Return whether there was anything to remember.
    """
    found = {queue: registers for queue, text in texts.items() if text and (registers := answered(text))}
    if not found:
        return False
    seen = now()
    lines = [
        f"{seen} {queue} {registers.replace(_LINE_FEED, BETWEEN)}\n" for queue, registers in found.items()
    ]
    with suppress(ApvfioError):
        if files.size(MKVPS) <= _OVERFULL:
            files.append(MKVPS, "".join(lines))
    return True


def answered(text: str) -> str:
    """Return the lines of ``text``, a queue's ``mkvps``, in which the card has answered with a state."""
    return _LINE_FEED.join([line for line in text.splitlines() if line and not line.endswith(_UNANSWERED)])

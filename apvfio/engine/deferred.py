# SPDX-License-Identifier: Apache-2.0
"""Defer slow returns from the hook to a systemd unit.

libvirt holds its guest's lock while the hook runs, and the return of queues is slow: each is reset, one after
the other, inside the write of the mask (bus:__ap_revise_reserved, vops:vfio_ap_mdev_remove_queue).
apvfio-reconcile.path makes `DIRECTORY` when it starts, and watches it; a file in it starts ``apvfio
reconcile``. The work itself is in the ledger.
"""

from __future__ import annotations

import time

from apvfio.model.errors import ApvfioError
from apvfio.model.progress import no_progress
from apvfio.store.processes import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.kernel.seam import Files
    from apvfio.model.progress import Progress

DIRECTORY = "run/apvfio/deferred"
QUICKEST = 0.03
"""Seconds that a queue takes to the host at best: vfio_ap looks every 20 ms whether its reset is over."""
_UNHEARD = 600
"""Seconds after which deferred returns count as not taken up: the path unit was stopped."""
_TURN = 2.0
"""Seconds to hold the lock for while there is much to return: a starting guest waits for it."""
_FIRST = 8
"""How many queues to return at first, as long as it is not known how slow they are."""
_ALL = 65536


class Pace:
    """How fast a call returns queues, how long it may take for that, and who hears of waits.

    The expected time of a return is the last measured one, and unlimited before any measurement. Returns that
    would exceed ``budget`` are left to the unit; ``progress`` hears what the call waits for.
    """

    def __init__(
        self, *, at_once: bool = False, budget: TimeBudget | None = None, progress: Progress = no_progress
    ) -> None:
        self.seconds = float("inf")
        """For each queue."""
        self.progress = progress
        self._at_once = at_once
        self._budget = budget

    def defers(self, queues: int) -> bool:
        """Return whether so many returns exceed the budget, if there is one, and are the unit's now."""
        return bool(queues and self._budget and self._budget.defers(queues * self.seconds))

    def measured(self, queues: int, seconds: float) -> None:
        """It took ``seconds`` to reset so many queues one after the other."""
        if queues:
            self.seconds = max(QUICKEST, seconds / queues)

    @property
    def portion(self) -> int:
        """How many queues to return before others are let in."""
        if self._at_once:
            return _ALL
        return max(1, int(_TURN / self.seconds)) if self.seconds < float("inf") else _FIRST


class TimeBudget:
    """The seconds that a hook may spend on returns. What takes longer is deferred, if the unit watches."""

    def __init__(self, files: Files, who: str, budget: float) -> None:
        self._files = files
        self._who = who
        self._end = time.monotonic() + budget

    def defers(self, seconds: float) -> bool:
        """Return whether returns that take so many ``seconds`` exceed the budget and are the unit's now."""
        return time.monotonic() + seconds > self._end and defer_returns(self._files, self._who)


def defer_returns(files: Files, who: str) -> bool:
    """Leave the pending returns to the unit; return False if the unit does not watch or cannot be told."""
    if not is_watched(files):
        return False
    try:
        return files.create(f"{DIRECTORY}/{now()}.{who}")
    except ApvfioError:
        return False


def is_deferred(files: Files) -> bool:
    """Return whether returns have been left to the unit, which has not made them yet."""
    try:
        return bool(files.list(DIRECTORY)) and is_watched(files)
    except ApvfioError:
        return False


def is_watched(files: Files) -> bool:
    """Return whether the unit takes up deferred returns.

    The name of a file has its time in seconds since the boot: an old file shows that the directory has
    outlived its watcher.
    """
    parent, _, directory = DIRECTORY.rpartition("/")
    try:
        names = files.list(DIRECTORY)
        return all(now() - since(name) <= _UNHEARD for name in names) and directory in files.list(parent)
    except ApvfioError:
        return False


def finish_deferred(files: Files, names: Iterable[str]) -> None:
    """Remove the requests ``names``, which were read under the lock before their returns were made.

    Returns that were deferred meanwhile start the unit again. A call that fails removes nothing, and is
    repeated.
    """
    for name in names:
        files.remove(f"{DIRECTORY}/{name}")


def since(name: str) -> int:
    """When a file of that name was put into `DIRECTORY`, in seconds since the boot."""
    when = name.partition(".")[0]
    return int(when) if when.isascii() and when.isdigit() else 0

# SPDX-License-Identifier: Apache-2.0
"""What shows that a guest still has its mediated device. Each sign alone protects what the guest holds:

one of its queues is in use (sysfs), a process has the device open, or a QEMU process of the guest runs.
"""

from __future__ import annotations

import time

from apvfio.kernel.snapshot import in_use, read_matrix
from apvfio.model.contexts import suppress
from apvfio.model.errors import ApvfioError, ConflictError, printable
from apvfio.model.ledger import HELD
from apvfio.model.text import some_queues
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn
    from apvfio.model.process import Process
    from apvfio.model.progress import Progress

_NAP = 0.05
_NAMED = 1


class LifeSigns(NamedTuple):
    """The signs found. ``process`` is known for certain only if there is no busy queue."""

    queues: list[Apqn]
    """Those in use."""
    process: Process | None
    opened: bool
    """Whether the process was found by its open device, not as the guest's QEMU."""


class Evidence:
    """The signs of life as one call finds them; processes are looked through at most once."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._running: Mapping[str, Process] | None = None

    def holder(self, lease: Lease, *, complete: bool = False) -> LifeSigns | None:
        """Who has the device of ``lease``, None if there is no sign of anybody.

        The first sign is enough unless a ``complete`` answer is wanted, for a message.
        """
        queues = busy_queues(self._system.sysfs, lease)
        if queues and not complete:
            return LifeSigns(queues, None, opened=False)
        # A live change is of a guest that runs, with the device or without.
        runs = None if lease.live_change else self._running_guests().get(lease.uuid)
        if runs:
            return LifeSigns(queues, runs, opened=False)
        opener = self._system.opener(lease.mdev)
        return LifeSigns(queues, opener, opened=bool(opener)) if queues or opener else None

    def wait_until_idle(self, leases: Iterable[Lease], deadline: float, progress: Progress) -> None:
        """Wait until there is no sign of life for any of ``leases``.

        ConflictError, naming guest, queues and process, if there still is at ``deadline`` (time.monotonic).
        """
        for lease in leases:
            while self.holder(lease):
                progress(f"waiting for guest {printable(lease.guest)} to release its mediated device")
                if time.monotonic() > deadline:
                    self.require_idle(lease)
                time.sleep(_NAP)
                self._running = None

    def require_idle(self, lease: Lease) -> None:
        """ConflictError, naming guest, queues and process, if there is any sign of life for ``lease``."""
        found = self.holder(lease, complete=True)
        if found is None:
            return
        pid = f" (process {found.process.pid})" if found.process and found.process.pid else ""
        if found.queues:
            sentence = f"it still has {some_queues(found.queues, _NAMED)} in use{pid}."
        elif found.opened:
            sentence = f"its mediated device is open{pid}."
        else:
            sentence = f"it still runs{pid}."
        raise ConflictError(sentence, guest=lease.guest, queues=found.queues, remedy="Stop the guest first.")

    def _running_guests(self) -> Mapping[str, Process]:
        if self._running is None:
            self._running = self._system.running_guests() or {}
        return self._running


def busy_queues(sysfs: Sysfs, lease: Lease) -> list[Apqn]:
    """Return the queues that the guest of ``lease`` has attached; during a change, as its device has them."""
    queues = set(lease.matrix.queues())
    if lease.state != HELD:
        with suppress(ApvfioError, OSError):  # there is no device any more
            queues.update(read_matrix(sysfs, lease.mdev).queues())
    return sorted(queue for queue in queues if in_use(sysfs, queue))

# SPDX-License-Identifier: Apache-2.0
"""A whole machine as apvfio sees it: /sys, apvfio's files, a lock, and the boot.

`RealSystem` is this machine, or a tree in its place (``--root``). The simulated one is
`apvfio.sim.host_file.SimSystem`. Nothing else in apvfio opens a file of the host.
"""

from __future__ import annotations

import os

from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.errors import HostError
from apvfio.store.files import RealFiles
from apvfio.store.locks import Patience, holding_locks
from apvfio.store.policy_file import read_times
from apvfio.store.processes import find_process, opener, running_guests
from apvfio.store.safe_open import open_ordinary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from apvfio.kernel.seam import Files, Sysfs, System
    from apvfio.model.process import Process

_BOOT_ID = "proc/sys/kernel/random/boot_id"
_BOOT_ID_LIMIT = 100


class RealSystem:
    """This machine, or the tree at ``root`` in its place."""

    def __init__(self, root: str = "/", waited: float = 0) -> None:
        """``waited``: how many seconds this call's locks have been waited for already, by another process."""
        self.root = root
        self.sysfs: Sysfs = RealSysfs(root)
        self._waited = waited
        self.files: Files = RealFiles(root)
        self._patience: Patience | None = None

    @property
    def boot_id(self) -> str:
        """The kernel's boot id; a tree without one lives and dies with this machine's boot."""
        for root in (self.root, "/"):
            try:
                fd = open_ordinary(os.path.join(root, _BOOT_ID), os.O_RDONLY)
                with open(fd, encoding="utf-8", errors="replace") as file:
                    return file.read(_BOOT_ID_LIMIT).strip()
            except OSError:
                continue
        raise HostError(f"/{_BOOT_ID} cannot be read.", remedy="Mount /proc.")

    @property
    def knows_processes(self) -> bool:
        """As far as it is this machine itself."""
        return on_this_machine(self)

    def running_guests(self) -> Mapping[str, Process] | None:
        """Return the running guests according to this machine's processes; none for a tree."""
        return running_guests() if on_this_machine(self) else None

    def opener(self, mdev: str) -> Process | None:
        """As with `running_guests`."""
        return opener(mdev) if on_this_machine(self) else None

    def lives(self, process: Process) -> bool:
        """As with `running_guests`."""
        return find_process(process.pid) == process if on_this_machine(self) else True

    def lock(self) -> AbstractContextManager[None]:
        """apvfio's own lock, then that of s390-tools; errors as in `apvfio.store.locks`.

        All locks of one call are waited for no longer than the policy's lock-wait, taken together.
        """
        if self._patience is None:
            self._patience = Patience(read_times(self.files).lock_wait, self._waited)
        return holding_locks(self.root, self._patience)


def on_this_machine(system: System) -> bool:
    """Whether ``system`` is this machine itself, so that its own tools work on it."""
    return isinstance(system, RealSystem) and os.path.realpath(system.root) == "/"

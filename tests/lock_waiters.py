# SPDX-License-Identifier: Apache-2.0
"""Which processes hold apvfio's own lock or wait for it."""

from __future__ import annotations

import os
from contextlib import suppress

from apvfio.store.locks import OWN_LOCK


def at_the_lock(root: str = "/") -> set[int]:
    """The pids of all other processes that have the lock's file open, below ``root``."""
    lock = os.path.join(root, OWN_LOCK)
    return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has_open(pid, lock)} - {
        os.getpid()
    }


def _has_open(pid: int, path: str) -> bool:
    """Whether the process has the file open; by its name as the process sees it.

    On a mounted simulated host the kernel may forget an open file's name, and look it up again for the next
    process: it then calls the file deleted that is there.
    """
    # It may end, or close the file, meanwhile.
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}").removesuffix(" (deleted)") == path:
                    return True
    return False

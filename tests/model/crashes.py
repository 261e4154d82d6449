# SPDX-License-Identifier: Apache-2.0
"""Crash points: every write of a verb, and everything that can befall it there."""

from __future__ import annotations

import errno as errnos
import os
from errno import (
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAGAIN,
    EBUSY,
    EEXIST,
    EINTR,
    EINVAL,
    EIO,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ERANGE,
    EROFS,
    ETIMEDOUT,
    EUSERS,
)
from typing import TYPE_CHECKING, NamedTuple

from apvfio.store.safe_open import file_error
from memory_host import Killed

if TYPE_CHECKING:
    from collections.abc import Iterator

KILL = 0
"""Stands for the end of the process where an errno would stand."""
_ANYWHERE = (EIO, ENOMEM, EINTR, ENODEV)
_ERRNOS: dict[str, tuple[int, ...]] = {
    "apmask": (EINVAL, EBUSY),
    "aqmask": (EINVAL, EBUSY),
    "driver_override": (EINVAL, ENOENT),
    "drivers_probe": (EINVAL,),
    "online": (),
    "unbind": (),
    "create": (EEXIST, EUSERS, EINVAL),
    "remove": (EAGAIN, ENOENT, EINVAL, ETIMEDOUT),
    "ap_config": (EADDRNOTAVAIL, EADDRINUSE, EINVAL),
    "assign_adapter": (EADDRNOTAVAIL, EADDRINUSE, EINVAL, ERANGE),
    "assign_domain": (EADDRNOTAVAIL, EADDRINUSE, EINVAL, ERANGE),
    "assign_control_domain": (EINVAL, ERANGE),
    "unassign_adapter": (EINVAL, ERANGE),
    "unassign_domain": (EINVAL, ERANGE),
    "unassign_control_domain": (EINVAL, ERANGE),
}
"""What the store functions can answer besides (bus, que, vops, msys); ETIMEDOUT is the watchdog's."""
TRUE = {("online", ENODEV), ("online", EINVAL)}
"""Answers that are not invented here: the queue is not the host's, and then nobody can set it offline."""
_DISK = (ENOSPC, EROFS, EIO)
_REPLY_LOST = (EIO, EINTR)
"""A write can take effect and yet seem to fail: a signal, the watchdog, the sync of a directory."""


class Fault(NamedTuple):
    """What happens at a write: the process ends or the write fails, before it or, ``late``, after it."""

    n: int
    """Which write, counted from 1."""
    errno: int
    """`KILL`, or the errno it fails with."""
    late: bool
    path: str

    def strike(self) -> None:
        """Do it."""
        if self.errno == KILL:
            raise Killed
        if self.path.startswith("/"):
            # As apvfio.store.files.RealFiles tells of it.
            raise file_error(self.path, "written", OSError(self.errno, os.strerror(self.errno)))
        raise OSError(self.errno, os.strerror(self.errno), self.path)

    def __str__(self) -> str:
        what = errnos.errorcode[self.errno] if self.errno else "kill"
        return f"{what} {'after' if self.late else 'before'} write {self.n} to {self.path}"


NEVER = Fault(0, KILL, False, "nothing")


def faults_at(n: int, path: str) -> Iterator[Fault]:
    """All that can happen at write number ``n``, which goes to ``path``."""
    name = path.rpartition("/")[2]
    on_disk = path.startswith("/")
    yield Fault(n, KILL, False, path)
    yield Fault(n, KILL, True, path)
    for errno in _DISK if on_disk else (*_ERRNOS[name], *_ANYWHERE):
        if (name, errno) not in TRUE:
            yield Fault(n, errno, False, path)
    for errno in (EIO,) if on_disk else (*_REPLY_LOST, *((ETIMEDOUT,) if name == "remove" else ())):
        yield Fault(n, errno, True, path)


def fewer(faults: list[Fault]) -> Iterator[Fault]:
    """A share of ``faults``: the end after every write, EIO before and after, each other errno in its turn.

    An end before a write finds the host as one after the write before.
    """
    turn = 0
    for fault in faults:
        if fault.errno == EIO or (fault.errno == KILL and (fault.late or fault.n == 1)):
            yield fault
            continue
        if fault.errno == KILL:
            continue
        turn += 1
        if turn % 8 == fault.n % 8:
            yield fault

# SPDX-License-Identifier: Apache-2.0
"""Whether the processes for which queues are kept still run: an end is not always reported.

A daemon that dies together with its guest never calls ``release``. QEMU's command line, as libvirt writes it,
has the guest's uuid (qemu_command.c:qemuBuildCommandLine, ``-uuid``).
"""

from __future__ import annotations

import os
import time
from errno import EBUSY

from apvfio.model.contexts import suppress
from apvfio.model.ledger import HELD
from apvfio.model.process import UNKNOWN, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.model.ledger import Lease

GRACE = 120
"""Seconds a guest has from getting its queues to having a QEMU process: hooks of others run between."""
_COMMAND_LIMIT = 1 << 20
_FIRST_USER, _LAST_USER = 1000, 59999
_STARTED = 19
"""Where ``starttime`` is among the fields from the state on (proc(5))."""


def should_run(lease: Lease, now: int) -> bool:
    """Return whether the guest of ``lease`` has had enough time to have a QEMU process; ``now`` as in `now`.

    A lease can be one second ahead of the clock, after a stop that was recorded in the same second.
    """
    return lease.state == HELD and not lease.since - 1 <= now < lease.since + GRACE


def now() -> int:
    """Whole seconds since the boot, sleep included."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def running_guests(proc: str = "/proc") -> dict[str, Process]:
    """The QEMU process of each guest that runs, by the guest's uuid.

    Any user can write ``-uuid`` on a command line: a process counts only if its executable is a QEMU that
    root installed, and its user is one of the system's own, as libvirt's ``user`` in qemu.conf is. Ordinary
    users have uids from 1000 to 59999 (login.defs(5), Debian policy 9.2.2). A zombie has no command line.
    """
    found = {}
    for name in filter(str.isdigit, os.listdir(proc)):
        words = command_line(int(name), proc)[:-1]
        with suppress(OSError):  # it has just ended
            if b"-uuid" in words[:-1] and _is_qemu(f"{proc}/{name}"):
                process = find_process(int(name), proc)
                if process:
                    found[words[words.index(b"-uuid") + 1].decode("utf-8", "replace").lower()] = process
    return found


def command_line(pid: int, proc: str = "/proc") -> list[bytes]:
    """The command line of the process ``pid``, split at each NUL, which ends a word; [] if it has ended."""
    with suppress(OSError), open(f"{proc}/{pid}/cmdline", "rb") as file:
        return file.read(_COMMAND_LIMIT).split(b"\0")
    return []


def _is_qemu(process: str) -> bool:
    """Whether the directory below /proc is that of a system user's QEMU; OSError if the process has ended.

    The real user counts: QEMU's setuid helpers, such as qemu-bridge-helper, can be started by anybody.
    """
    name = os.path.basename(os.readlink(f"{process}/exe"))
    owner = os.stat(f"{process}/exe").st_uid
    return name.startswith(("qemu", "kvm")) and owner == 0 and not _FIRST_USER <= _user(process) <= _LAST_USER


def _user(process: str) -> int:
    """The real user of a process (proc(5))."""
    with open(f"{process}/status", encoding="utf-8", errors="replace") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Uid:")), _FIRST_USER)


def opener(mdev: str) -> Process | None:
    """Return the process that has the mediated device ``mdev`` open, None if there is none.

    `UNKNOWN` if its files cannot be read, as those of a zombie whose threads have not ended.
    """
    device = f"/sys/bus/mdev/devices/{mdev}"
    if not _is_open(device):
        return None
    # To find the process is slow, and what it takes is loaded then only.
    from apvfio.mdev.watchdog import holders  # noqa: PLC0415

    found = (find_process(pid) for pid, _ in holders(device))
    return next(filter(None, found), UNKNOWN)


def _is_open(device: str) -> bool:
    """Whether the mediated device has a user: its group can be opened once at a time.

    The kernel answers EBUSY then, also if the device is open by its own node (group.c:vfio_group_fops_open).
    """
    try:
        group = os.path.basename(os.readlink(f"{device}/iommu_group"))
        os.close(os.open(f"/dev/vfio/{group}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        return error.errno == EBUSY
    return False


def find_process(pid: int, proc: str = "/proc") -> Process | None:
    """The process ``pid``, None if there is none or it has ended and only its parent does not know."""
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name, in parentheses, may hold anything.
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else Process(pid, int(fields[_STARTED]))
    except (OSError, ValueError, IndexError):
        return None


def age(process: Process) -> float:
    """How long ago ``process`` started, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / os.sysconf("SC_CLK_TCK")


def parent() -> Process | None:
    """The process that started this one, None if it has ended."""
    pid = os.getppid()
    return find_process(pid) if pid > 1 else None

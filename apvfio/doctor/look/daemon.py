# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon as a process: since when it runs, and when it last looked for hooks."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

from apvfio.doctor.facts import Daemon
from apvfio.install import programs
from apvfio.liveness import find_process

_PIDFILES = ("/run/{}.pid", "/run/libvirt/{}.pid")
_RELOAD = re.compile(r"start_time=\[\w+ (\d+-\d+-\d+ \d+:\d+:\d+)")


def find_daemon(name: str | None) -> Daemon | None:
    """The daemon ``name`` if it runs; a daemon that is started on demand does not always."""
    pid = _pid(name) if name else 0
    process = find_process(pid) if pid else None
    if not name or process is None:
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + process.started / os.sysconf("SC_CLK_TCK")
    return Daemon(name, pid, max(started, _reloaded(name)))


def _pid(name: str) -> int:
    for pattern in _PIDFILES:
        with suppress(OSError, ValueError), open(pattern.format(name), encoding="ascii") as file:
            pid = int(file.read(20))
            # A file that was left behind names some other process.
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                if comm.read().strip() == name[:15]:
                    return pid
    return 0


def _reloaded(name: str) -> float:
    """When systemd last had it reload, 0 if it never did or there is no systemd."""
    said = programs.run(["systemctl", "show", "-p", "ExecReload", f"{name}.service"])
    times = _RELOAD.findall(said[1]) if said[0] == 0 else []
    # systemctl writes times of this machine's time zone.
    return max((time.mktime(time.strptime(when, "%Y-%m-%d %H:%M:%S")) for when in times), default=0.0)

# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon as a process: since when it runs, and when it last looked for hooks."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from apvfio.doctor.facts import DaemonFacts
from apvfio.mdev import programs
from apvfio.store.processes import find_process

_PIDFILES = ("/run/{}.pid", "/run/libvirt/{}.pid")
_STATE_CHANGE = "StateChangeTimestampMonotonic"


def find_daemon(name: str | None) -> DaemonFacts | None:
    """The daemon ``name`` if it runs; a daemon that is started on demand does not always."""
    pid = _pid(name) if name else 0
    process = find_process(pid) if pid else None
    if not name or process is None:
        return None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + process.started / os.sysconf("SC_CLK_TCK")
    return DaemonFacts(name, pid, max(started, _reloaded(name)))


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
    """When systemd last started it or had it reload, in seconds since 1970; 0 without systemd.

    A service that runs changes its state by a reload alone. systemd keeps this time over ``daemon-reload``
    (unit-serialize.c: state-change-timestamp), unlike the times of ExecReload (org.freedesktop.systemd1(5)).
    """
    code, text = programs.ask(["systemctl", "show", "-p", _STATE_CHANGE, f"{name}.service"])
    value = text.strip().removeprefix(f"{_STATE_CHANGE}=")
    if code or not value.isdigit() or value == "0":
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + int(value) / 1e6

# SPDX-License-Identifier: Apache-2.0
"""The saved state of a machine that has booted and has no AP hardware yet: quick to restore."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import time
from typing import TYPE_CHECKING

from problems import MachineError, TimedOutError
from vm import CACHE, GUEST, QEMU, ROOT, Shape, create

if TYPE_CHECKING:
    from pathlib import Path

_NAP = 0.1
_ATTEMPTS = 3
_PATIENCE = 20.0
"""Seconds; it takes half of one."""


def saved_state(shape: Shape, deadline: float) -> Path:
    """The file with the state of a machine of this shape, made if need be. MachineError."""
    shape.check()
    lock = os.open(CACHE / f"state-{shape.kernel}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = CACHE / f"state-{shape.kernel}-{_fingerprint(shape)}"
        if not path.exists():
            for old in CACHE.glob(f"state-{shape.kernel}-*"):
                old.unlink()
            _make(path, shape, deadline)
        return path
    finally:
        os.close(lock)


def _fingerprint(shape: Shape) -> str:
    """Changes with whatever a state depends on."""
    version = subprocess.run([QEMU, "--version"], capture_output=True, check=True).stdout
    seen = hashlib.sha256(f"{shape} {ROOT.stat().st_mtime_ns}".encode() + version)
    for path in (shape.directory / "inputs", *sorted(GUEST.iterdir())):
        seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


def _make(path: Path, shape: Shape, deadline: float) -> None:
    new = path.with_name(f"{path.name}.new")
    try:
        for _ in range(_ATTEMPTS):
            _save(new, shape, deadline)
            if _goes_on(new, shape, deadline):
                new.rename(path)
                return
    finally:
        new.unlink(missing_ok=True)
    raise MachineError("no saved machine goes on as it should: use --cold")


def _save(path: Path, shape: Shape, deadline: float) -> None:
    machine = create(deadline)
    try:
        path.touch(mode=0o600)
        machine.start(shape)
        machine.ask({"run": ["true"]})
        machine.monitor("stop")
        machine.monitor("migrate", uri=f"exec:cat >{shlex.quote(str(path))}")
        while (status := machine.monitor("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                raise MachineError(f"the machine's state could not be saved: {status}")
            time.sleep(_NAP)
    finally:
        machine.end()


def _goes_on(path: Path, shape: Shape, deadline: float) -> bool:
    """Whether time passes on every processor: from some moments QEMU restores them without their timers."""
    machine = create(min(deadline, time.monotonic() + _PATIENCE))
    naps = f"for n in $(seq 0 {shape.processors - 1}); do taskset -c $n sleep 0.1; done"
    try:
        machine.start(shape, state=path)
        return machine.ask({"run": ["sh", "-c", naps]}) == 0
    except TimedOutError:
        return False
    finally:
        machine.end()

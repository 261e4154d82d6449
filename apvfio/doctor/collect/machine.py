# SPDX-License-Identifier: Apache-2.0
"""Facts about this machine only: its programs, its daemon, the installation."""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from apvfio.doctor.collect.libvirt_guests import is_enabled, look_at_guest_shutdown
from apvfio.doctor.facts import (
    SEEN,
    UNSEEN,
    UNSURE,
    DaemonFacts,
    HookFacts,
    MachineFacts,
    OtherHook,
    UnitFacts,
    Unseen,
    attempt,
    otherwise,
)
from apvfio.engine import deferred
from apvfio.install import checks
from apvfio.install.file_changes import CHANGED, EDITED, SAME, Found, look, packaged
from apvfio.install.installed_files import (
    CALLOUT,
    CALLOUTS,
    HOOK,
    MARK,
    PACKAGED,
    PATH_UNIT,
    PREFIXES,
    PREPARE_UNIT,
    RECONCILE_UNIT,
    Choices,
    contents,
)
from apvfio.install.manifest import RECORD
from apvfio.install.reload_commands import booted
from apvfio.mdev import programs
from apvfio.store.processes import find_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.doctor.facts import Seen
    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Ledger

_ENFORCING = "/sys/fs/selinux/enforce"
_AP_CHECKS = (f"/{CALLOUTS[0]}/ap-check", f"/{CALLOUTS[1]}/ap-check.sh")
_LIMIT = 1 << 20
_PACKED = (".gz", ".xz", ".zst")
"""Packages have their manuals compressed, each distribution in its way."""
_PIDFILES = ("/run/{}.pid", "/run/libvirt/{}.pid")
_STATE_CHANGE = "StateChangeTimestampMonotonic"
_SECOND = 1.0
"""systemd's times are whole seconds."""


def look_at_machine(system: System, ledger: Ledger | None) -> MachineFacts:
    """What there is on this machine; ``system`` must be it."""
    text = otherwise(partial(_text, f"/{HOOK}"), "")
    of_package = otherwise(partial(packaged, "/"), False)
    choices = _choices(text, of_package=of_package)
    found = attempt(lambda: tuple(_installed(choices)))
    daemon = find_daemon(checks.daemon())
    other_hooks = tuple(look_at_other_hooks())
    return MachineFacts(
        findings=tuple(checks.check(choices)),
        found=found,
        hook=look_at_hook(text, found, of_package=of_package),
        other_hooks=other_hooks,
        daemon=daemon,
        hook_seen=has_seen_hook(daemon, other_hooks, ledger) if daemon else SEEN,
        enforcing=otherwise(lambda: _text(_ENFORCING).strip(), "0") == "1",
        units=tuple(map(_unit, (PREPARE_UNIT, PATH_UNIT, RECONCILE_UNIT))) if booted() else None,
        deferred_for=_waiting(system),
        guest_shutdown=look_at_guest_shutdown() if booted() and is_enabled() else None,
        reinstall=checks.reinstall_command() if of_package else "",
        ap_check=next((path for path in _AP_CHECKS if os.access(path, os.X_OK)), ""),
    )


def _choices(hook: str, *, of_package: bool) -> Choices:
    """How apvfio was installed here, as its files show."""
    python = re.search(r"^python=(/\S+)$", hook, re.MULTILINE)
    packages = re.search(r"^packages=(/\S+)$", hook, re.MULTILINE)
    unit = f"lib/systemd/system/{PREPARE_UNIT}"
    return Choices(
        prefix=next((p for p in PREFIXES if os.path.exists(f"{p}/{unit}")), PREFIXES[0]),
        python=python[1] if python else sys.executable,
        notifier=checks.has_mdevctl(),
        # The page is in a separate package.
        cockpit=checks.has_cockpit() and not of_package,
        callouts=next((place for place in CALLOUTS if os.path.exists(f"/{place}/{CALLOUT}")), ""),
        packaged=of_package,
        packages=packages[1] if packages else "",
    )


def _installed(choices: Choices) -> Iterator[Found]:
    for found in look("/", contents(choices), {}):
        text = otherwise(partial(_text, f"/{found.path}"), "")
        # A file that was copied by hand lacks only the mark; a package can be installed beside such files.
        same = found.item and _unmarked(text) == _unmarked(found.item.text)
        packed = choices.packaged and any(os.path.exists(f"/{found.path}{end}") for end in _PACKED)
        state = SAME if same or packed else CHANGED if found.state == EDITED else found.state
        yield found._replace(state=state)


def _unmarked(text: str) -> str:
    return "".join(
        line for line in text.splitlines(keepends=True) if MARK not in line and PACKAGED not in line
    )


def look_at_hook(text: str, found: Seen[tuple[Found, ...]], *, of_package: bool = False) -> HookFacts:
    """Return the state of the installed hook; ``text`` is its content, ``found`` the installed files."""
    path = f"/{HOOK}"
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return HookFacts("missing", of_package)
    state = "link" if stat.S_ISLNK(mode) else "" if stat.S_ISREG(mode) else "irregular"
    if state == "link" and not os.path.exists(path):
        state = "missing"
    label = otherwise(lambda: os.getxattr(path, "security.selinux").decode().strip("\0"), "")
    if not state and checks.HOOK_PROGRAM not in text:
        state = "foreign"  # one that is not executable must not be made so
    elif not state and PACKAGED in text and not of_package:
        state = "left over"
    elif not state and not mode & stat.S_IXUSR:
        state = "not executable"
    elif not state:
        files = () if isinstance(found, Unseen) else found
        same = any(f.path == HOOK and f.state == SAME for f in files)
        state = "same" if same else "changed"
    return HookFacts(state, of_package, label.split(":")[2] if label.count(":") > 1 else "")


def look_at_other_hooks() -> Iterator[OtherHook]:
    """In the order in which libvirt runs them."""
    for path in checks.hook_scripts():
        if path != f"/{HOOK}":
            yield OtherHook(path, _fault(path), os.path.islink(path))


def _fault(path: str) -> str:
    """What keeps a script from being started, as a clause; '' if nothing does."""
    head = otherwise(partial(_head, path), b"")
    if head.startswith(b"\x7fELF"):
        return ""
    if not head.startswith(b"#!"):
        return "it is not a program and has no #! line" if head else "it is empty"
    words = head[2:].split(b"\n")[0].decode("utf-8", "replace").split(" ")
    return _interpreter_fault([word for word in words if word])


def _interpreter_fault(words: list[str]) -> str:
    if not words:
        return "its #! line names no interpreter"
    if words[-1].endswith("\r"):
        return "its #! line ends in a carriage return"
    by_name = os.path.basename(words[0]) == "env" and len(words) == 2
    missing = [words[0]] if not os.access(words[0], os.X_OK) else []
    missing += [words[1]] if by_name and not programs.find(words[1]) else []
    return f"its interpreter {missing[0]} does not exist" if missing else ""


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
            # A leftover pid file names another process.
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


def has_seen_hook(daemon: DaemonFacts, others: Iterable[OtherHook], ledger: Ledger | None) -> str:
    """Whether a hook was there when the daemon last looked (virhook.c:virHookInitialize).

    Evidence for one: another script, a guest that the hook has served in this boot, or a record of an older
    installation. The hook itself is new after every update. Changing its mode or its label changes its time
    and not that of its directory: it was there then, and possibly not executable.
    """
    paths = (f"/{HOOK}", f"/{RECORD}", *(other.path for other in others))
    first = min(otherwise(partial(changed_at, path), inf) for path in paths)
    looked = daemon.looked + _SECOND
    if (ledger and ledger.last_holder) or not looked < first < inf:
        return SEEN
    return UNSEEN if looked < otherwise(partial(changed_at, os.path.dirname(f"/{HOOK}")), inf) else UNSURE


def _unit(name: str) -> UnitFacts:
    words = ["systemctl", "show", "-p", "LoadState,UnitFileState,ActiveState,SubState", name]
    said = dict(line.split("=", 1) for line in programs.ask(words)[1].splitlines() if "=" in line)
    started_by_others = name == RECONCILE_UNIT
    return UnitFacts(
        name,
        loaded=said.get("LoadState") == "loaded",
        enabled=started_by_others or said.get("UnitFileState", "").startswith("enabled"),
        # systemd tries a unit with Restart= again after a while.
        failed=said.get("ActiveState") == "failed" or said.get("SubState") == "auto-restart",
        active=name != PATH_UNIT or said.get("ActiveState") == "active",
    )


def _waiting(system: System) -> float:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    names = otherwise(lambda: system.files.list(deferred.DIRECTORY), list[str]())
    return max((now - deferred.since(name) for name in names), default=0.0)


def changed_at(path: str) -> float:
    """Return when the mode, owner or content of ``path`` last changed, in seconds since 1970."""
    return os.stat(path).st_ctime


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_LIMIT)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(256)

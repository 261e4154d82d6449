# SPDX-License-Identifier: Apache-2.0
"""What must be right on this machine for the installation to work, and what had better be."""

from __future__ import annotations

import os
from typing import NamedTuple

from apvfio.errors import printable
from apvfio.install import programs
from apvfio.install.contents import CALLOUT, CALLOUTS, HOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.install.contents import Choices

_LEAST_LIBVIRT = (6, 5)
"""The first that runs the scripts in qemu.d (NEWS of libvirt 6.5.0)."""
_QUICK_S390_TOOLS = (2, 33)
"""Before, a tool that finds the lock held sleeps for five seconds and more."""
_CALLOUTS_IN_ORDER = (1, 3)
_DAEMONS = ("virtqemud", "libvirtd")
_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_SELINUX = "/sys/fs/selinux/enforce"
_CONFINED = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
"""Where libvirt's AppArmor profile lets the daemon start programs (usr.sbin.libvirtd, PUx)."""
_HOOK_PROGRAM = "apvfio.hook"
_SCRIPT_LIMIT = 1 << 20


class Finding(NamedTuple):
    """Something about this machine that is not as it should be."""

    hinders: bool
    """Whether nothing can be installed like this."""
    sentence: str
    remedy: str

    def as_json(self) -> dict[str, object]:
        """The finding as ``install --json`` prints it."""
        return self._asdict()


def check(choices: Choices) -> list[Finding]:
    """All findings about this machine."""
    return [
        *_libvirt(),
        *_interpreter(choices.python),
        *_other_hooks(),
        *_kernel(),
        *_tools(),
        *(_callouts() if choices.callout else ()),
    ]


def daemon() -> str | None:
    """The daemon that runs guests here, as systemd calls it."""
    return next((name for name in _DAEMONS if programs.find(name)), None)


def _libvirt() -> Iterator[Finding]:
    name = daemon()
    if name is None:
        yield Finding(True, "libvirt's daemon for QEMU is not installed.", "Install libvirt 6.5 or newer.")
        return
    found = programs.version(name, "--version")
    if found and found < _LEAST_LIBVIRT:
        shown = ".".join(map(str, found))
        yield Finding(
            True, f"libvirt {shown} does not run scripts in qemu.d.", "Install libvirt 6.5 or newer."
        )


def _interpreter(python: str) -> Iterator[Finding]:
    code, text = programs.run([python, "-I", "-c", "import apvfio.hook"])
    if code:
        why = printable(text.splitlines()[-1], 200) if text else f"exit code {code}"
        yield Finding(
            True,
            f"{python} cannot run apvfio: {why}.",
            "Install apvfio for it, or name another interpreter with --python.",
        )
        return
    program = os.path.realpath(python)
    confined = _reads(_APPARMOR) == "Y"
    if confined and os.path.dirname(program) not in _CONFINED:
        yield Finding(
            True,
            f"AppArmor keeps libvirt's daemon from running {program}.",
            "Use an interpreter in /usr/bin: --python /usr/bin/python3.",
        )
    if _reads(_SELINUX) == "1":
        yield Finding(
            False,
            "SELinux is enforcing, and its policy may keep libvirt's hooks from starting programs.",
            "If guests do not start, run 'setsebool -P virt_hooks_unconfined on'.",
        )


def _other_hooks() -> Iterator[Finding]:
    """Other files that libvirt would run as well, of ours or not."""
    directory = os.path.dirname(f"/{HOOK}")
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        names = []
    for path in ("/etc/libvirt/hooks/qemu", *(f"{directory}/{name}" for name in names)):
        if path == f"/{HOOK}" or not os.access(path, os.X_OK):
            continue
        if _HOOK_PROGRAM in (_reads(path) or ""):
            yield Finding(True, f"{path} runs apvfio, too: each guest would be served twice.", "Remove it.")
        elif path.endswith("~") or os.path.basename(path).startswith("."):
            yield Finding(
                False, f"libvirt runs {path} like any other script there.", "Remove it if it is a left copy."
            )


def _kernel() -> Iterator[Finding]:
    if os.path.isdir("/sys/devices/vfio_ap"):
        return
    code, _ = programs.run(["modinfo", "-n", "vfio_ap"])
    if code:
        yield Finding(False, "this kernel has no module vfio_ap.", "Boot one that has.")
    elif not os.path.isdir("/sys/bus/ap"):
        yield Finding(False, "this machine has no AP bus.", "Give the LPAR a Crypto Express adapter.")


def _tools() -> Iterator[Finding]:
    if programs.find("mdevctl") is None:
        yield Finding(
            False, "mdevctl is not installed: 'apvfio define' needs it.", "Install it, then install again."
        )
    found = programs.version("lszdev", "--version")
    if found and found < _QUICK_S390_TOOLS:
        yield Finding(
            False,
            f"chzdev of s390-tools {'.'.join(map(str, found))} sleeps for seconds when it meets apvfio.",
            "Update s390-tools to 2.33 or newer.",
        )


def _callouts() -> Iterator[Finding]:
    found = programs.version("mdevctl", "--version")
    if found is None:
        return
    others = [
        f"/{place}/{name}"
        for place in CALLOUTS
        if os.path.isdir(f"/{place}")
        for name in sorted(os.listdir(f"/{place}"))
        if name != CALLOUT
    ]
    if others and found < _CALLOUTS_IN_ORDER:
        yield Finding(
            False,
            f"mdevctl {'.'.join(map(str, found))} asks one callout alone, and it may be {others[0]}.",
            "Update mdevctl to 1.3 or newer, where apvfio's comes first and ends in ap-check.",
        )


def _reads(path: str) -> str | None:
    """The text of a file, None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_SCRIPT_LIMIT).strip()
    except OSError:
        return None

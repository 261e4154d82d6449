# SPDX-License-Identifier: Apache-2.0
"""Conditions on this machine that an installation requires, and conditions that cause a warning."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, NamedTuple

from apvfio.install.installed_files import CALLOUT, CALLOUTS, HOOK, PREFIXES
from apvfio.mdev import programs
from apvfio.mdev.callouts import SCRIPTS
from apvfio.model.errors import HostError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.install.installed_files import Choices

_LEAST_LIBVIRT = (6, 5)
"""The first that runs the scripts in qemu.d (NEWS of libvirt 6.5.0)."""
_QUICK_S390_TOOLS = (2, 33)
"""Before, a tool that finds the lock held sleeps for five seconds and more."""
_CALLOUTS_IN_ORDER = (1, 3)
_DAEMONS = ("virtqemud", "libvirtd")
_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_PROFILES = "/sys/kernel/security/apparmor/profiles"
_SELINUX = "/sys/fs/selinux/enforce"
_CONFINED = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
"""Where libvirt's AppArmor profile lets the daemon start programs (usr.sbin.libvirtd, PUx)."""
_REINSTALL = {
    "apt-get": "apt-get install -y --reinstall -o Dpkg::Options::=--force-confmiss apvfio",
    "dnf": "dnf reinstall -y apvfio",
    "zypper": "zypper --non-interactive install --force apvfio",
}
"""By program, the command that puts back a package's files; dpkg has to be told to do so below /etc."""
HOOK_PROGRAM = "apvfio.libvirt.hook"
LEAST_PYTHON = (3, 9)
_TRY_HOOK = (
    f"import sys; sys.version_info >= {LEAST_PYTHON} or sys.exit('it is Python %d.%d, and apvfio needs "
    f"{LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer' % sys.version_info[:2]); "
    f"import {HOOK_PROGRAM}, apvfio; print(apvfio.__file__)"
)
_ITS_NAMES = "*apvfio | qemu) ;;"
"""How the hook says under which names it works."""
_OTHERS_WRITE = 0o022
HOOKS = "/etc/libvirt/hooks"
_UNCONFINED_HOOKS = "/sys/fs/selinux/booleans/virt_hooks_unconfined"
_SCRIPTS = tuple(f"{place}/{kind}" for place in SCRIPTS for kind in ("callouts", "notifiers"))
"""The directories without which mdevctl refuses to run, in one release or another."""
_SCRIPT_LIMIT = 1 << 20


class Finding(NamedTuple):
    """Something about this machine that is not as it should be."""

    hinders: bool
    """Whether nothing can be installed like this."""
    sentence: str
    remedy: str
    id: str = ""
    """What it is about, as ``apvfio doctor`` calls it; '' for what that command looks at itself."""
    commands: tuple[str, ...] = ()
    """Lines for a shell that solve the problem, if there are any."""

    def as_json(self) -> dict[str, object]:
        """The finding as ``install --json`` prints it."""
        return {
            "id": self.id or None,
            "hinders": self.hinders,
            "message": self.sentence,
            "remedy": self.remedy,
            "commands": list(self.commands),
        }


def check(choices: Choices) -> list[Finding]:
    """All findings about this machine."""
    return [
        *_prefix(choices.prefix),
        *_libvirt(),
        *_interpreter(choices.python),
        *_other_hooks(),
        *_kernel(),
        *_tools(),
        *(_callouts(choices.callouts) if choices.callouts else ()),
    ]


def aside(path: str, directory: str) -> str:
    """The command that moves ``path`` to ``directory``, under a name that nothing reads and nothing has."""
    target = f"{directory}/{os.path.basename(path)}.not-ours"
    return f"mv -T --backup=numbered {shlex.quote(path)} {shlex.quote(target)}"


def not_run(path: str, *, link: bool) -> str:
    """Return the command that keeps libvirt from running the script ``path``, but not a link's target."""
    return aside(path, "/etc/libvirt") if link else f"chmod a-x {shlex.quote(path)}"


def reinstall_command() -> str:
    """The command that puts back the files of the package apvfio, also those in /etc; '' if unknown."""
    return next((command for program, command in _REINSTALL.items() if programs.find(program)), "")


def daemon() -> str | None:
    """The daemon that runs guests here, as systemd calls it."""
    there = [name for name in _DAEMONS if programs.find(name)]
    in_use = [name for name in there if _active(f"{name}.service", f"{name}.socket")]
    return next(iter(in_use + there), None)


def daemon_to_reload() -> str | None:
    """The daemon, if it runs: one that does not will look for hooks when it starts."""
    name = daemon()
    return name if name and _active(f"{name}.service") else None


def has_mdevctl() -> bool:
    """Return whether mdevctl is installed, which runs the notifier."""
    return programs.find("mdevctl") is not None


def has_cockpit() -> bool:
    """Return whether Cockpit is installed: Debian's and Fedora's cockpit-bridge has this directory."""
    return os.path.isdir("/usr/share/cockpit/base1")


def place_for_callout() -> str:
    """The one of `CALLOUTS` where this machine's mdevctl looks first; HostError if there is none."""
    if not has_mdevctl():
        sentence = "mdevctl, which --callout requires, is not installed."
        raise HostError(sentence, remedy="Install it, or do without --callout.")
    found = programs.version("mdevctl", "--version")
    return CALLOUTS[1] if found and found < _CALLOUTS_IN_ORDER else CALLOUTS[0]


def _active(*units: str) -> bool:
    return programs.ask(["systemctl", "is-active", "-q", *units])[0] == 0


def _prefix(prefix: str) -> Iterator[Finding]:
    if prefix not in PREFIXES:
        yield Finding(
            True, f"systemd and udev read nothing below {prefix}.", f"Use --prefix {' or '.join(PREFIXES)}."
        )


def _libvirt() -> Iterator[Finding]:
    name = daemon()
    if name is None:
        yield Finding(
            True, "libvirt's daemon for QEMU is not installed.", "Install libvirt 6.5 or newer.", "libvirt"
        )
        return
    found = programs.version(name, "--version")
    if found is None:
        yield Finding(
            False, f"{name} does not report its version.", "Check that it is 6.5 or newer.", "libvirt"
        )
    elif found < _LEAST_LIBVIRT:
        shown = ".".join(map(str, found))
        sentence = f"libvirt {shown} does not run scripts in qemu.d."
        yield Finding(True, sentence, "Install libvirt 6.5 or newer.", "libvirt")


def _interpreter(python: str) -> Iterator[Finding]:
    code, text = programs.ask([python, "-I", "-c", _TRY_HOOK])
    if code:
        why = printable(text.splitlines()[-1], 200) if text else f"exit code {code}"
        if os.geteuid():
            # The interpreter, or the modules, may be where only root can go.
            sentence = f"this user cannot run apvfio with {python}: {why}."
            yield Finding(False, sentence, "Run this as root: the hook is run by root.", "python")
            return
        remedy = "Install apvfio for it, or name another interpreter with --python."
        yield Finding(True, f"{python} cannot run apvfio: {why}.", remedy, "python", ("apvfio install",))
        return
    program = os.path.realpath(python)
    if _confined() and os.path.dirname(program) not in _CONFINED:
        sentence = f"AppArmor prevents libvirt's daemon from running {program}."
        remedy = "Install apvfio for an interpreter in /usr/bin, and name that with --python."
        yield Finding(True, sentence, remedy, "apparmor", tuple(_for_another_interpreter()))
    if _reads(_SELINUX) == "1" and not (_reads(_UNCONFINED_HOOKS) or "").startswith("1"):
        sentence = "SELinux is enforcing, and its policy may prevent libvirt's hooks from starting programs."
        remedy = "If guests do not start, run 'setsebool -P virt_hooks_unconfined on'."
        yield Finding(False, sentence, remedy, "selinux", ("setsebool -P virt_hooks_unconfined on",))
    # No command: what is exposed may be anybody's home, or a directory that many share.
    for path in dict.fromkeys(filter(None, map(exposed, (python, program, text)))):
        sentence = f"{path}, which root runs, is owned or writable by a user other than root."
        remedy = "Install apvfio where only root writes, such as /usr/lib/apvfio."
        yield Finding(False, sentence, remedy, "exposed")


def _confined() -> bool:
    """Whether AppArmor restricts the daemon; if its profiles cannot be read it is taken to."""
    profiles = _reads(_PROFILES)
    return _reads(_APPARMOR) == "Y" and (
        profiles is None
        or any(
            line.endswith("(enforce)") and os.path.basename(line.split()[0]) in _DAEMONS
            for line in profiles.splitlines()
        )
    )


def _for_another_interpreter() -> Iterator[str]:
    """The command that installs apvfio for the system's own interpreter, if that one has it."""
    python = "/usr/bin/python3"
    if programs.ask([python, "-I", "-c", _TRY_HOOK])[0] == 0:
        yield f"apvfio install --python {python}"


def exposed(path: str) -> str | None:
    """Return the first of ``path`` and the directories above it that others than root can change.

    In a directory with the sticky bit, such as /tmp, others cannot replace root's files.
    """
    while path != os.path.dirname(path):
        try:
            here = os.stat(path)
        except OSError:
            return None
        shared = stat.S_ISDIR(here.st_mode) and here.st_mode & stat.S_ISVTX
        if here.st_uid or (here.st_mode & _OTHERS_WRITE and not shared):
            return path
        path = os.path.dirname(path)
    return None


def hook_scripts() -> list[str]:
    """Return what libvirt runs for each guest, in its order: every executable file, whatever its name.

    Source: virhook.c:virHookCall.
    """
    directory = os.path.dirname(f"/{HOOK}")
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        names = []
    paths = (f"{HOOKS}/qemu", *(f"{directory}/{name}" for name in names))
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]


def _other_hooks() -> Iterator[Finding]:
    """Judge other files that libvirt would run, and hooks that users other than root can write."""
    scripts = hook_scripts()
    yield from writable(scripts)
    for path in scripts:
        if path == f"/{HOOK}":
            continue
        text, name = _reads(path) or "", os.path.basename(path)
        place = ("other-hooks", (not_run(path, link=os.path.islink(path)),))
        if HOOK_PROGRAM in text and _ITS_NAMES in text and not name.endswith("apvfio") and name != "qemu":
            sentence = f"{path} is a copy of apvfio's hook, which does nothing under this name."
            yield Finding(False, sentence, "Keep libvirt from running it.", *place)
        elif HOOK_PROGRAM in text:
            sentence = f"{path} runs apvfio, too: each guest would be served twice."
            yield Finding(True, sentence, "Keep libvirt from running it.", *place)
        elif name.endswith("~") or name.startswith("."):
            sentence = f"libvirt runs {path} like any other script there."
            yield Finding(False, sentence, "If it is a leftover copy, disable it.", *place)


def writable(scripts: list[str]) -> Iterator[Finding]:
    """Those of the ``scripts``, which libvirt runs as root, that others than root may write."""
    found = (exposed(path) or exposed(os.path.realpath(path)) for path in scripts)
    for path in dict.fromkeys(filter(None, found)):
        own = path.startswith(f"{HOOKS}/") and os.path.isfile(path) and not os.path.islink(path)
        yield Finding(
            False,
            f"libvirt runs hooks as root, and users other than root can write {path}.",
            "Check its content, then remove that permission.",
            "exposed",
            (f"chown root {shlex.quote(path)}", f"chmod go-w {shlex.quote(path)}") if own else (),
        )


def _kernel() -> Iterator[Finding]:
    if os.path.isdir("/sys/devices/vfio_ap"):
        return
    if lacks_module():
        yield Finding(False, "this kernel has no module vfio_ap.", "Boot a kernel that has it.")
    elif not os.path.isdir("/sys/bus/ap"):
        yield Finding(False, "this machine has no AP bus.", "Give the LPAR a Crypto Express adapter.")


def lacks_module() -> bool:
    """Whether the running kernel is known to have no module vfio_ap."""
    return programs.find("modinfo") is not None and programs.ask(["modinfo", "-n", "vfio_ap"])[0] != 0


def _tools() -> Iterator[Finding]:
    if not has_mdevctl():
        sentence = "mdevctl is not installed: 'apvfio define' needs it."
        yield Finding(False, sentence, "Install it, then install again.", "mdevctl")
    else:
        code, text = programs.ask(["mdevctl", "--version"])
        if code:
            why = printable(text.splitlines()[-1], 200) if text else f"exit code {code}"
            yield Finding(
                False,
                f"mdevctl does not run: {why}.",
                "Create the directories that it needs.",
                "mdevctl",
                (f"mkdir -p {' '.join(f'/{place}' for place in _SCRIPTS)}",),
            )
    found = programs.version("lszdev", "--version")
    if found and found < _QUICK_S390_TOOLS:
        release = ".".join(map(str, found))
        sentence = f"chzdev of s390-tools {release} sleeps for seconds when apvfio holds their shared lock."
        yield Finding(False, sentence, "Update s390-tools to 2.33 or newer.", "s390-tools")


def _callouts(place: str) -> Iterator[Finding]:
    """Other callouts that mdevctl may ask instead."""
    try:
        others = sorted(name for name in os.listdir(f"/{place}") if name != CALLOUT)
    except OSError:
        return
    if place == CALLOUTS[1] and others:
        sentence = f"this mdevctl runs only one callout, which may be /{place}/{others[0]}."
        remedy = "Update mdevctl to 1.3 or newer: it runs apvfio's callout first, and that one runs ap-check."
        yield Finding(False, sentence, remedy, "callouts")
    elif others and others[0] < CALLOUT:
        sentence = f"mdevctl asks /{place}/{others[0]} before apvfio's callout."
        yield Finding(False, sentence, "If it is for vfio_ap-passthrough, move it away.", "callouts")


def _reads(path: str) -> str | None:
    """The text of a file, None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_SCRIPT_LIMIT).strip()
    except OSError:
        return None

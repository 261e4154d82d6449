# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon, our hook, and the hooks of others."""

from __future__ import annotations

import os

from apvfio.doctor.check import OK, PROBLEM, WARNING, Check, of_error, ok, problem, skipped, warning
from apvfio.doctor.facts import Unseen
from apvfio.errors import Exit
from apvfio.install.contents import HOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.doctor.facts import Facts, Machine
    from apvfio.doctor.words import Words

_HOOK = f"/{HOOK}"
_LABELS = ("virt_hook_t", "virt_hook_unconfined_exec_t", "bin_t")
"""Types that libvirt's daemon may be allowed to run (selinux-policy: virt.te, virt.fc)."""
STANDS_FOR_ANOTHER = "this is not this machine's host, and only here programs can be asked"


def judge_libvirt(facts: Facts, words: Words) -> Iterator[Check]:
    """The daemon, then the way from it into the hook."""
    machine = facts.machine
    if facts.session:
        yield problem(
            "connection",
            f"{words.connect} is a session daemon, which runs as an ordinary user.",
            "Define guests with AP queues under qemu:///system.",
        )
    if machine is None:
        yield skipped("hook", STANDS_FOR_ANOTHER)
        return
    yield from of_findings(machine, ("libvirt",), {"libvirt": "libvirt is new enough to run the hook"})
    yield from _connection(facts)
    yield from _hook(machine)
    yield from of_findings(
        machine, ("python", "apparmor", "selinux", "exposed"), {"python": "its interpreter has apvfio"}
    )
    if machine.enforcing and machine.hook.label and machine.hook.label not in _LABELS:
        yield warning(
            "hook-label",
            f"SELinux is enforcing, and {_HOOK} has the type {machine.hook.label}, not virt_hook_t.",
            "Give it the label of its place.",
            f"restorecon -v {_HOOK}",
        )
    yield from _others(machine)
    yield from of_findings(machine, ("other-hooks",), {})
    yield from _known(machine)


def of_findings(machine: Machine, names: Iterable[str], well: dict[str, str]) -> Iterator[Check]:
    """What the installation's own checks have found, or ``well`` where they have found nothing."""
    for name in names:
        found = [finding for finding in machine.findings if finding.id == name]
        for one in found:
            yield Check(name, PROBLEM if one.hinders else WARNING, one.sentence, one.remedy, one.commands)
        if not found and name in well:
            yield Check(name, OK, well[name])


def _connection(facts: Facts) -> Iterator[Check]:
    if isinstance(facts.guests, Unseen) and not facts.rights:
        yield skipped("connection", facts.guests.error.sentence.removesuffix("."))
    elif isinstance(facts.guests, Unseen):
        machine = facts.machine
        name = machine.daemon.name if machine and machine.daemon else "libvirtd"
        commands = (f"systemctl start {name}",) if machine and machine.units is not None else ()
        yield of_error("connection", facts.guests.error, *commands)
    else:
        yield ok("connection", "libvirt's daemon answers")


def _hook(machine: Machine) -> Iterator[Check]:
    hook = machine.hook
    again = "apvfio install"
    if hook.state == "missing":
        yield problem("hook", f"libvirt's hook {_HOOK} is not installed.", "Install it.", again)
    elif hook.state == "not executable":
        yield problem(
            "hook",
            f"libvirt passes over {_HOOK}: it is not executable.",
            "Make it so.",
            f"chmod 0755 {_HOOK}",
        )
    elif hook.state in ("foreign", "irregular"):
        yield problem(
            "hook",
            f"{_HOOK} is not apvfio's.",
            "Move it away, out of that directory, and install.",
            f"mv {_HOOK} /etc/libvirt/50-apvfio.not-ours",
            again,
            code=Exit.CONFLICT,
        )
    elif hook.state == "link":
        yield warning(
            "hook",
            f"{_HOOK} is a symbolic link: what it leads to may be out of reach for the daemon.",
            "Put the file itself there.",
            f"rm {_HOOK}",
            again,
        )
    elif hook.state == "changed":
        command = () if hook.packaged else (again,)
        remedy = "Reinstall the package." if hook.packaged else "Install it anew."
        yield warning("hook", f"{_HOOK} is not the one of this version of apvfio.", remedy, *command)
    else:
        yield ok("hook", f"{_HOOK} is installed")


def _others(machine: Machine) -> Iterator[Check]:
    for path, fault in machine.other_hooks:
        if fault:
            yield problem(
                "other-hooks",
                f"libvirt cannot run {path}: {fault}. One hook that fails stops every start.",
                "Mend it, or keep libvirt from running it.",
                f"chmod a-x {path}",
            )


def _known(machine: Machine) -> Iterator[Check]:
    daemon = machine.daemon
    if machine.hook.state in ("missing", "not executable", "irregular"):
        yield skipped("hook-seen", "there is no hook to see")
    elif daemon is None:
        yield ok("hook-seen", "libvirt's daemon does not run, and will look for hooks when it is started")
    elif machine.unknown_to_daemon:
        reload = f"systemctl reload {daemon.name}" if machine.units is not None else f"kill -HUP {daemon.pid}"
        yield problem(
            "hook-seen",
            f"{daemon.name} had no hook when it last looked, and {os.path.basename(_HOOK)} came after that.",
            "Have it look again; guests that run go on.",
            reload,
        )
    else:
        yield ok("hook-seen", f"{daemon.name} knows that there are hooks")

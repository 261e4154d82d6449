# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon, apvfio's hook, and other hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.doctor.check import OK, PROBLEM, WARNING, Check, of_error, ok, problem, skipped, warning
from apvfio.doctor.facts import UNSEEN, UNSURE, Unseen
from apvfio.install.checks import aside, not_run
from apvfio.install.installed_files import HOOK
from apvfio.model.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.doctor.facts import Facts, MachineFacts
    from apvfio.doctor.remedies import Words

_HOOK = f"/{HOOK}"
_LOOK_AGAIN = "Reload the daemon; running guests are not affected."
_LABELS = ("virt_hook_t", "virt_hook_unconfined_exec_t", "bin_t")
"""Types that libvirt's daemon may be allowed to run (selinux-policy: virt.te, virt.fc)."""
STANDS_FOR_ANOTHER = "with --sim or --root, there are no programs to ask"


def judge_libvirt(facts: Facts, words: Words) -> Iterator[Check]:
    """Judge the daemon, then everything between the daemon and the hook."""
    machine = facts.machine
    if facts.session:
        sentence = f"{words.connect} is a session daemon, which runs as an ordinary user."
        yield problem("connection", sentence, "Define guests with AP queues under qemu:///system.")
    if machine is None:
        yield skipped("hook", STANDS_FOR_ANOTHER)
        return
    yield from of_findings(machine, ("libvirt",), {"libvirt": "libvirt is new enough to run the hook"})
    yield from _connection(facts)
    yield from _hook(machine)
    yield from of_findings(
        machine,
        ("python", "apparmor", "selinux", "exposed"),
        {"python": "the hook's Python has apvfio"},
    )
    if machine.enforcing and machine.hook.label and machine.hook.label not in _LABELS:
        sentence = f"SELinux is enforcing, and {_HOOK} has the type {machine.hook.label}, not virt_hook_t."
        remedy = "Restore its label and reload the daemon; running guests are not affected."
        yield warning("hook-label", sentence, remedy, f"restorecon -v {_HOOK}", *_reload(machine))
    others = list(_others(machine))
    shown = {check.commands for check in others}
    yield from others
    # These findings prevent an installation, but no start of a guest.
    more = (check for check in of_findings(machine, ("other-hooks",), {}) if check.commands not in shown)
    yield from (check._replace(state=WARNING) for check in more)
    yield from _known(machine)


def of_findings(machine: MachineFacts, names: Iterable[str], well: dict[str, str]) -> Iterator[Check]:
    """What the installation's own checks have found, or ``well`` where they have found nothing."""
    for name in names:
        found = [finding for finding in machine.findings if finding.id == name]
        for one in found:
            # With the package installed, that command is refused.
            again = machine.hook.packaged and any(c.startswith("apvfio install") for c in one.commands)
            commands = tuple(put_back(machine)) if again else one.commands
            yield Check(name, PROBLEM if one.hinders else WARNING, one.sentence, one.remedy, commands)
        if not found and name in well:
            yield Check(name, OK, well[name])


def _connection(facts: Facts) -> Iterator[Check]:
    if isinstance(facts.guests, Unseen) and not facts.rights:
        yield skipped("connection", facts.guests.error.clause)
    elif isinstance(facts.guests, Unseen):
        machine = facts.machine
        name = machine.daemon.name if machine and machine.daemon else "libvirtd"
        # Starting a daemon that runs and does not answer would do nothing.
        runs = machine is not None and machine.daemon is not None
        again = f"systemctl restart {name}" if runs else f"systemctl start {name}"
        commands = (again,) if machine and machine.units is not None else ()
        yield of_error("connection", facts.guests.error, *commands)
    else:
        yield ok("connection", "libvirt's daemon answers")


def _hook(machine: MachineFacts) -> Iterator[Check]:
    hook = machine.hook
    again = list(put_back(machine))
    how = "Reinstall the package." if hook.packaged else "Install it again."
    if hook.packaged:
        # The command restores missing files; dpkg keeps changed ones.
        again += _reload(machine)
    if hook.state == "missing":
        yield problem("hook", f"libvirt's hook {_HOOK} is not installed.", how, *again)
    elif hook.state == "not executable":
        yield problem(
            "hook",
            f"libvirt ignores {_HOOK}: it is not executable.",
            "Make it executable and reload the daemon; running guests are not affected.",
            f"chmod 0755 {_HOOK}",
            *_reload(machine),
        )
    elif hook.state in ("foreign", "irregular"):
        yield problem(
            "hook",
            f"{_HOOK} is not apvfio's.",
            f"Move it out of that directory. {how}",
            aside(_HOOK, "/etc/libvirt"),
            *again,
            code=Exit.CONFLICT,
        )
    elif hook.state == "left over":
        # No command: to purge the package is to remove its configuration, too.
        yield warning(
            "hook",
            f"{_HOOK} is left over from the package apvfio, which is not installed.",
            "Install the package again; or purge it with its configuration, then run 'apvfio install'.",
        )
    elif hook.state == "link":
        sentence = f"{_HOOK} is a symbolic link: the daemon may not reach its target."
        yield warning("hook", sentence, "Put the file itself there.", aside(_HOOK, "/etc/libvirt"), *again)
    elif hook.state == "changed":
        first = [aside(_HOOK, "/etc/libvirt")] if hook.packaged and again else []
        yield warning("hook", f"{_HOOK} is from another version of apvfio.", how, *first, *again)
    else:
        yield ok("hook", f"{_HOOK} is installed")


def put_back(machine: MachineFacts) -> Iterator[str]:
    """The command that puts missing files of apvfio in their places.

    Beside the package 'apvfio install' is refused.
    """
    if not machine.hook.packaged:
        yield "apvfio install"
    elif machine.reinstall:
        yield machine.reinstall


def _others(machine: MachineFacts) -> Iterator[Check]:
    for path, fault, link in machine.other_hooks:
        if fault:
            sentence = f"libvirt cannot run {path}: {fault}. One hook that fails stops every start."
            remedy = "Repair it, or keep libvirt from running it."
            yield problem("other-hooks", sentence, remedy, not_run(path, link=link))


def _reload(machine: MachineFacts) -> Iterator[str]:
    """The command that has a running daemon look for hooks."""
    daemon = machine.daemon
    if daemon:
        yield f"systemctl reload {daemon.name}" if machine.units is not None else f"kill -HUP {daemon.pid}"


def _known(machine: MachineFacts) -> Iterator[Check]:
    daemon = machine.daemon
    if machine.hook.state in ("missing", "not executable", "irregular"):
        yield skipped("hook-seen", "there is no hook")
    elif daemon is None:
        yield ok("hook-seen", "libvirt's daemon does not run, and will look for hooks when it is started")
    elif machine.hook_seen == UNSEEN:
        sentence = (
            f"{daemon.name} does not call {_HOOK}, which was installed after the daemon last looked for "
            "hooks."
        )
        yield problem("hook-seen", sentence, _LOOK_AGAIN, *_reload(machine))
    elif machine.hook_seen == UNSURE:
        sentence = (
            f"{daemon.name} may not call {_HOOK}, whose mode or label changed after the daemon last "
            f"looked for hooks."
        )
        yield warning("hook-seen", sentence, _LOOK_AGAIN, *_reload(machine))
    else:
        yield ok("hook-seen", f"{daemon.name} runs its hooks")

# SPDX-License-Identifier: Apache-2.0
"""``apvfio install`` and ``apvfio uninstall``: what other programs run and read, put in place and removed."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import NamedTuple

from apvfio import broker
from apvfio import ledger as ledgers
from apvfio.cli.place import add_json, opened, print_json
from apvfio.errors import ConflictError, Exit, HostError, UsageError, printable
from apvfio.handover import DIRECTORY
from apvfio.host import BUS
from apvfio.install import checks, commands, programs
from apvfio.install.checks import Finding
from apvfio.install.commands import Command
from apvfio.install.contents import HOOK, Choices, contents, everything, possible_callouts
from apvfio.install.tree import CHANGED, FOREIGN, NEW, SAME, Found, look, put, remove
from apvfio.system import on_this_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.system import System

_RUN = "run/apvfio"


class Work(NamedTuple):
    """What is to be done, and what came of it."""

    found: list[Found]
    findings: list[Finding]
    commands: list[Command]
    notes: list[str]

    def as_json(self, done: bool) -> dict[str, object]:
        """The work as ``--json`` prints it."""
        return {
            "files": [{"path": f"/{item.path}", "state": state} for item, state in self.found],
            "findings": [finding.as_json() for finding in self.findings],
            "commands": [command.as_json() for command in self.commands],
            "notes": self.notes,
            "done": done,
        }


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register both commands."""
    parser = subparsers.add_parser(
        "install",
        help="make apvfio a part of this host: hook, units, rules, manuals",
        description="Shows what it will do, then does it. Nothing is restarted. With --root DIR the files "
        "are put below DIR, as a package wants them, and no command is run.",
    )
    _add_options(parser)
    parser.add_argument(
        "--callout", action="store_true", help="have mdevctl free queues before it starts a device"
    )
    parser.add_argument(
        "--python",
        metavar="FILE",
        default=sys.executable,
        help="the interpreter that libvirt's hook and the units run (default: this one)",
    )
    parser.set_defaults(run=_install)
    parser = subparsers.add_parser("uninstall", help="take apvfio out of this host; its configuration stays")
    _add_options(parser)
    parser.add_argument("--force", action="store_true", help="even if guests hold queues")
    parser.set_defaults(run=_uninstall)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prefix", metavar="DIR", default="/usr/local", help="for units and manuals; packages use /usr"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done; do nothing")
    add_json(parser)


def _install(args: argparse.Namespace) -> int:
    choices = Choices(_prefix(args), _interpreter(args.python))
    with opened(args) as system:
        here = _require_tree(args, system)
        # What was once chosen is kept up to date.
        there = any(f.state in (SAME, CHANGED) for f in look(args.root, possible_callouts(choices)))
        choices = choices._replace(callout=args.callout or there)
        found = look(args.root, contents(args.root, choices))
        findings = checks.check(choices) if here else []
        told = commands.after_install(choices) if here else []
        if all(state == SAME for _, state in found) and (not here or commands.enabled()):
            told = []
        work = Work(found, findings, told, _notes(found, here=here))
        _require_fit(work)
        if not args.json:
            _show(work, {NEW: "install", CHANGED: "update", SAME: "keep"})
        if not args.dry_run:
            put(args.root, found)
            _run_all(told)
    if args.json:
        print_json(work.as_json(done=not args.dry_run))
    return Exit.OK


def _uninstall(args: argparse.Namespace) -> int:
    items = everything(Choices(_prefix(args)))
    with opened(args) as system:
        here = _require_tree(args, system)
        found = [f for f in look(args.root, items) if f.state in (SAME, CHANGED)]
        if not args.force:
            _require_unused(system)
        before, after = (
            (commands.before_uninstall(), commands.after_uninstall()) if here and found else ([], [])
        )
        work = Work(found, [], [*before, *after], [])
        if not args.json:
            _show(work, {SAME: "remove", CHANGED: "remove"})
        if not args.dry_run:
            _run_all(before)
            if here and found and system.sysfs.exists(BUS):
                broker.reconcile(system)
            remove(args.root, found)
            _forget(args.root, system)
            _run_all(after)
    if args.json:
        print_json(work.as_json(done=not args.dry_run))
    return Exit.OK


def _require_tree(args: argparse.Namespace, system: System) -> bool:
    """Whether this machine itself is meant, and not a tree."""
    if args.sim:
        raise UsageError("a simulated host cannot be installed on.", remedy="Use --root DIR, or neither.")
    return on_this_machine(system)


def _prefix(args: argparse.Namespace) -> str:
    if not os.path.isabs(args.prefix) or os.path.normpath(args.prefix) == "/":
        raise UsageError(f"--prefix is {args.prefix!r}.", remedy="Write a directory such as /usr/local.")
    prefix: str = os.path.normpath(args.prefix)
    return prefix


def _interpreter(path: str) -> str:
    if not os.path.isabs(path) or not all(c.isalnum() or c in "/._-+" for c in path):
        raise UsageError(
            f"--python is {printable(path)!r}.",
            remedy="Write an absolute path without blanks, such as /usr/bin/python3.",
        )
    return path


def _require_fit(work: Work) -> None:
    hindering = next((finding for finding in work.findings if finding.hinders), None)
    if hindering:
        raise HostError(hindering.sentence, remedy=hindering.remedy)
    foreign = next((item.path for item, state in work.found if state == FOREIGN), None)
    if foreign:
        raise ConflictError(
            f"/{foreign} is there and not apvfio's.", remedy="Move it away, then install again."
        )


def _notes(found: list[Found], *, here: bool) -> list[str]:
    if not here:
        return [
            "On the host, the package's scripts run: systemctl enable --now apvfio-reconcile.path; "
            "systemctl enable apvfio-prepare.service; systemd-tmpfiles --create apvfio.conf; "
            "udevadm control --reload; restorecon -R /etc/libvirt/hooks where there is SELinux."
        ]
    daemon = checks.daemon()
    first = not os.path.exists("/etc/libvirt/hooks/qemu") and not _has_scripts(os.path.dirname(f"/{HOOK}"))
    if daemon and first and any(item.path == HOOK and state == NEW for item, state in found):
        return [
            f"libvirt had no hook so far and looks for one when it is told to: systemctl reload {daemon}. "
            "Guests that run go on."
        ]
    return []


def _has_scripts(directory: str) -> bool:
    try:
        return any(os.access(os.path.join(directory, name), os.X_OK) for name in os.listdir(directory))
    except OSError:
        return False


def _show(work: Work, verbs: dict[str, str]) -> None:
    for item, state in work.found:
        print(f"{verbs[state]:<7} /{item.path}")
    for command in work.commands:
        print(f"run     {command}   # {command.why}")
    if not work.commands and all(state == SAME for _, state in work.found) and "keep" in verbs.values():
        print("nothing to do")
    if not work.found:
        print("nothing to do")
    for finding in work.findings:
        print(f"note    {finding.sentence} {finding.remedy}")
    for note in work.notes:
        print(f"note    {note}")


def _run_all(told: list[Command]) -> None:
    """Run the commands; one that fails is told of and keeps none of the others."""
    for command in told:
        code, text = programs.run(command.words)
        if code:
            why = printable(text.splitlines()[-1] if text else f"exit code {code}", 200)
            print(f"apvfio: '{command}' failed: {why}. Run it again by hand.", file=sys.stderr)


def _require_unused(system: System) -> None:
    ledger = ledgers.load(system.files, system.boot_id)
    holding = sorted({lease.guest for lease in ledger.leases.values()})
    if holding:
        names = ", ".join(printable(name) for name in holding[:5]) + (", ..." if len(holding) > 5 else "")
        raise ConflictError(
            f"{'guest' if len(holding) == 1 else 'guests'} {names} would not return the queues held now.",
            remedy="Shut down first, or add --force.",
        )


def _forget(root: str, system: System) -> None:
    """Remove what there is below /run; but the ledger stays while something is held or owed."""
    # Its being there says that somebody takes up what is handed over.
    shutil.rmtree(os.path.join(root, DIRECTORY), ignore_errors=True)
    ledger = ledgers.load(system.files, system.boot_id)
    if not (ledger.leases or ledger.owed or ledger.overrides or ledger.promises):
        shutil.rmtree(os.path.join(root, _RUN), ignore_errors=True)

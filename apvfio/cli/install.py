# SPDX-License-Identifier: Apache-2.0
"""``apvfio install`` and ``apvfio uninstall``: what other programs run and read, put in place and removed."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from typing import NamedTuple

from apvfio.cli.place import add_json, opened, print_json
from apvfio.errors import Exit, HostError, UsageError, printable
from apvfio.install import checks, commands, programs, record
from apvfio.install.checks import Finding
from apvfio.install.commands import Command
from apvfio.install.contents import CALLOUT, CALLOUTS, HOOK, PREFIXES, Choices, contents
from apvfio.install.removal import forget, pay, require_unused
from apvfio.install.tree import (
    CHANGED,
    FOREIGN,
    NEW,
    OBSOLETE,
    OF_PACKAGE,
    SAME,
    Found,
    apply,
    look,
    require_ours,
)
from apvfio.system import on_this_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.system import System

_VERBS = {NEW: "install", SAME: "keep", CHANGED: "update", OBSOLETE: "remove", FOREIGN: "leave"}


class Work(NamedTuple):
    """What is to be done."""

    found: list[Found]
    findings: list[Finding]
    before: list[Command]
    after: list[Command]
    package: dict[str, list[Command]]
    """For a tree that will be a package: what its scripts run, and when."""
    notes: list[str]

    @property
    def nothing(self) -> bool:
        """Whether all is done already."""
        return not (self.before or self.after or any(f.state not in (SAME, FOREIGN) for f in self.found))

    def as_json(self, done: bool, failed: list[str]) -> dict[str, object]:
        """The work as ``--json`` prints it, and what came of it."""
        return {
            "files": [{"path": f"/{path}", "state": state} for path, state, _ in self.found],
            "findings": [finding.as_json() for finding in self.findings],
            "commands": [command.as_json() for command in (*self.before, *self.after)],
            "package": {when: [c.as_json() for c in told] for when, told in self.package.items()},
            "notes": self.notes,
            "done": done,
            "failed": failed,
        }


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register both commands."""
    parser = subparsers.add_parser(
        "install",
        help="make apvfio a part of this host: hook, units, rules, manuals",
        description="Shows what it will do, then does it. Nothing is restarted. With --root DIR the files "
        "are put below DIR, and no command is run.",
    )
    parser.add_argument(
        "--prefix",
        metavar="DIR",
        default=PREFIXES[0],
        help=f"for units and manuals (default: {PREFIXES[0]}); packages use /usr",
    )
    parser.add_argument(
        "--callout", action="store_true", help="have mdevctl free queues before it starts a device"
    )
    parser.add_argument(
        "--python",
        metavar="FILE",
        default=sys.executable,
        help="the interpreter that libvirt's hook and the units run (default: this one)",
    )
    parser.add_argument(
        "--package",
        action="store_true",
        help="with --root: the files are a package's; also shows what its scripts have to run",
    )
    _add_common(parser)
    parser.set_defaults(run=_install)
    parser = subparsers.add_parser("uninstall", help="take apvfio out of this host; its configuration stays")
    parser.add_argument("--force", action="store_true", help="even if guests hold queues")
    _add_common(parser)
    parser.set_defaults(run=_uninstall)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done; do nothing")
    add_json(parser)


def _install(args: argparse.Namespace) -> int:
    prefix, python = _prefix(args.prefix), _interpreter(args.python)
    with opened(args) as system:
        here = _is_host(args, system)
        if args.package and here:
            raise UsageError("--package is for a tree.", remedy="Name it with --root DIR.")
        known = record.load(system.files)
        choices = Choices(
            prefix,
            python,
            notifier=not here or checks.has_mdevctl(),
            callouts=_place_for_callout(known, chosen=args.callout, here=here),
            packaged=args.package,
        )
        found = look(args.root, contents(choices), known.files)
        of_package = any(f.state == OF_PACKAGE for f in found)
        if of_package and choices.callouts:
            # The one thing that a package leaves to choose.
            found = [f for f in found if os.path.basename(f.path) == CALLOUT]
        findings = checks.check(choices) if here else []
        _require_fit(findings)
        require_ours(found)
        package = commands.of_package(choices) if args.package else {}
        work = Work(found, findings, [], [], package, _notes(found) if here else [])
        if here and not of_package and not (work.nothing and commands.enabled()):
            work = work._replace(after=commands.after_install(choices, [f.path for f in found if f.item]))
        _show(work, args)
        failed = []
        if not args.dry_run:
            if args.package:
                apply(args.root, found)
            else:
                record.change(args.root, system.files, known, found)
            failed = _run_all(work.after)
    return _end(work, args, failed)


def _uninstall(args: argparse.Namespace) -> int:
    with opened(args) as system:
        here = _is_host(args, system)
        known = record.load(system.files)
        found = look(args.root, (), known.files)
        on_host = here and bool(found)
        work = Work(found, [], [], [], {}, [])
        if on_host:
            work = work._replace(before=commands.before_removal(), after=commands.after_removal())
        if on_host and not args.dry_run:
            # It also ends the leases of guests that run no more.
            pay(system, args.force)
        require_unused(system, args.force)
        _show(work, args)
        failed = [] if args.dry_run else _take_out(system, args, known, work, on_host)
    return _end(work, args, failed)


def _take_out(
    system: System, args: argparse.Namespace, known: record.Record, work: Work, on_host: bool
) -> list[str]:
    """Do the work of an uninstall; what failed, in sentences."""
    failed = _run_all(work.before)
    if on_host:
        # What a stop handed over meanwhile, to a unit that is no more.
        pay(system, args.force)
    # No guest may start between the last look and the end of the hook.
    with system.lock() if on_host else nullcontext():
        require_unused(system, args.force)
        record.change(args.root, system.files, known, work.found)
    if not forget(args.root, system):
        work.notes.append("Guests still hold queues or the host is owed some: see 'apvfio status'.")
    return failed + _run_all(work.after)


def _is_host(args: argparse.Namespace, system: System) -> bool:
    """Whether this machine itself is meant, and not a tree."""
    if args.sim:
        raise UsageError("a simulated host cannot be installed on.", remedy="Use --root DIR, or neither.")
    return on_this_machine(system)


def _prefix(path: str) -> str:
    normal = f"/{os.path.normpath(path).strip('/')}"
    if not os.path.isabs(path) or normal == "/" or not _plain(path):
        raise UsageError(
            f"--prefix is {printable(path)!r}.",
            remedy="Write an absolute path without blanks, such as /usr/local.",
        )
    return normal


def _interpreter(path: str) -> str:
    if not os.path.isabs(path) or not _plain(path):
        raise UsageError(
            f"--python is {printable(path)!r}.",
            remedy="Write an absolute path without blanks, such as /usr/bin/python3.",
        )
    return path


def _plain(path: str) -> bool:
    """Whether neither a shell nor systemd would read more into it."""
    return all(c.isascii() and (c.isalnum() or c in "/._-+") for c in path)


def _place_for_callout(known: record.Record, *, chosen: bool, here: bool) -> str:
    # What was once chosen is kept up to date.
    if not chosen and not any(f"{place}/{CALLOUT}" in known.files for place in CALLOUTS):
        return ""
    return checks.place_for_callout() if here else CALLOUTS[0]


def _require_fit(findings: list[Finding]) -> None:
    hindering = [finding for finding in findings if finding.hinders]
    if hindering:
        first, *others = hindering
        more = "".join(f" Besides, {other.sentence} {other.remedy}" for other in others)
        raise HostError(first.sentence, remedy=f"{first.remedy}{more}")


def _notes(found: list[Found]) -> list[str]:
    directory = os.path.dirname(f"/{HOOK}")
    first = not os.path.exists("/etc/libvirt/hooks/qemu") and not _has_scripts(directory)
    daemon = checks.daemon_to_reload()
    if first and daemon and any(path == HOOK and state == NEW for path, state, _ in found):
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


def _show(work: Work, args: argparse.Namespace) -> None:
    if args.json:
        return
    for path, state, _ in work.found:
        print(f"{_VERBS[state]:<7} /{path}")
    for command in (*work.before, *work.after):
        print(f"run     {command}   # {command.why}")
    if work.nothing:
        print("nothing to do")
    for when, told in work.package.items():
        for command in told:
            print(f"package {when}: {command}   # {command.why}")
    for finding in work.findings:
        print(f"note    {finding.sentence} {finding.remedy}")
    sys.stdout.flush()


def _end(work: Work, args: argparse.Namespace, failed: list[str]) -> int:
    if args.json:
        print_json(work.as_json(not args.dry_run, failed))
    else:
        for note in work.notes:
            print(f"note    {note}")
        for sentence in failed:
            print(f"apvfio: {sentence}", file=sys.stderr)
    return Exit.FAILURE if failed else Exit.OK


def _run_all(told: list[Command]) -> list[str]:
    """Run the commands; one sentence for each that failed, which keeps none of the others."""
    failed = []
    for command in told:
        code, text = programs.run(command.words)
        if code:
            why = printable(text.splitlines()[-1] if text else f"exit code {code}", 200).removesuffix(".")
            failed.append(f"'{command}' failed: {why}. Run it again by hand.")
    return failed

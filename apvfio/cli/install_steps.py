# SPDX-License-Identifier: Apache-2.0
"""The steps of an installation or a removal: shown, taken and reported."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.host_options import add_json, print_json
from apvfio.cli.verbosity import add_quiet, console
from apvfio.install.checks import Finding
from apvfio.install.file_changes import CHANGED, FOREIGN, NEW, OBSOLETE, SAME, Found
from apvfio.install.reload_commands import Command
from apvfio.mdev import programs
from apvfio.model.errors import Exit, UsageError, printable
from apvfio.store.system import on_this_machine

if TYPE_CHECKING:
    from apvfio.kernel.seam import System

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
    directories: tuple[str, ...] = ()
    """Those that go if they are empty."""

    @property
    def nothing(self) -> bool:
        """Whether all is done already."""
        return not (
            self.before
            or self.after
            or self.directories
            or any(found.state not in (SAME, FOREIGN) for found in self.found)
        )

    def as_json(self, done: bool, failed: list[str]) -> dict[str, object]:
        """Return the work and its results as ``--json`` prints them."""
        return {
            "files": [
                {"path": f"/{found.path}", "state": found.state}
                | ({"kept": f"/{found.kept}"} if found.kept else {})
                for found in self.found
            ],
            "directories": [f"/{path}" for path in self.directories],
            "findings": [finding.as_json() for finding in self.findings],
            "commands": [command.as_json() for command in (*self.before, *self.after)],
            "package": {when: [c.as_json() for c in commands] for when, commands in self.package.items()},
            "notes": self.notes,
            "done": done,
            "failed": failed,
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
    )
    add_quiet(parser)
    add_json(parser)


def is_host(args: argparse.Namespace, system: System) -> bool:
    """Whether this machine itself is meant, and not a tree."""
    if args.sim:
        raise UsageError("a simulated host cannot be installed on.", remedy="Use --root DIR, or neither.")
    return on_this_machine(system)


def show(work: Work, args: argparse.Namespace) -> None:
    if args.json:
        return
    would = "would " if args.dry_run else ""
    for path, state, item, kept in work.found:
        verb = _VERBS[CHANGED if item else OBSOLETE] if kept else _VERBS[state]
        print(
            f"{would}{verb:<7} /{path}"
            + (f"   # edited since its installation: kept as /{kept}" if kept else "")
        )
    for path in work.directories:
        print(f"{would}remove  /{path}   # if it is empty")
    for command in (*work.before, *work.after):
        print(f"{would}run     {command}   # {command.why}")
    if work.nothing:
        print("nothing to do")
    for when, commands in work.package.items():
        for command in commands:
            print(f"package {when}: {command}   # {command.why}")
    for finding in work.findings:
        print(f"note    {finding.sentence} {finding.remedy}")
    sys.stdout.flush()


def end(work: Work, args: argparse.Namespace, failed: list[str]) -> int:
    if args.json:
        print_json(work.as_json(not args.dry_run, failed))
    else:
        for note in work.notes:
            print(f"note    {note}")
        for sentence in failed:
            print(f"apvfio: {sentence}", file=console(args))
    return Exit.FAILURE if failed else Exit.OK


def run_all(commands: list[Command]) -> list[str]:
    """Run the commands; one sentence for each that failed, which keeps none of the others."""
    failed = []
    for command in commands:
        code, text = programs.ask(command.words)
        if code and not command.may_fail:
            why = printable(text.splitlines()[-1] if text else f"exit code {code}", 200).removesuffix(".")
            failed.append(f"'{command}' failed: {why}. Run it again by hand.")
    return failed

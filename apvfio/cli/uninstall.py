# SPDX-License-Identifier: Apache-2.0
"""``apvfio uninstall``: remove what ``apvfio install`` has installed."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from apvfio.cli.host_options import opened
from apvfio.cli.install_steps import Work, add_options, end, is_host, run_all, show
from apvfio.cli.progress import ProgressLine
from apvfio.events.audit_log import AUDIT_LOG
from apvfio.install import manifest, reload_commands
from apvfio.install.file_changes import look, packaged
from apvfio.install.removal import forget, require_unused, return_pending

if TYPE_CHECKING:
    from apvfio.kernel.seam import System


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "uninstall", help="remove the files of 'apvfio install' from this host; the configuration stays"
    )
    parser.add_argument("--force", action="store_true", help="uninstall even if guests hold queues")
    parser.add_argument(
        "--package",
        action="store_true",
        help="prepare the host for the removal of the package, as its scripts do",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove it."""
    with opened(args) as system:
        here = is_host(args, system)
        known = manifest.load(system.files)
        found = look(args.root, (), known.files)
        work = Work(found, [], [], [], {}, [], _directories(args.root, known))
        if here:
            work = work._replace(
                before=reload_commands.before_removal(known.files),
                after=reload_commands.after_removal(known.files),
            )
        if args.package or not packaged(args.root):
            failed = _leave(system, args, known, work, on_host=here and (args.package or not work.nothing))
        else:
            # Beside a package only the callout is installed, and the package works without it.
            show(work, args)
            failed = [] if args.dry_run else _remove(system, args, known, work)
            work.notes.append("The package apvfio stays: its package manager removes it.")
    return end(work, args, failed)


def _directories(root: str, known: manifest.Record) -> tuple[str, ...]:
    if known == manifest.Record():
        return ()
    here = (path for path in known.directories if os.path.isdir(os.path.join(root, path)))
    return (*here, os.path.dirname(manifest.RECORD))


def _leave(
    system: System, args: argparse.Namespace, known: manifest.Record, work: Work, *, on_host: bool
) -> list[str]:
    """Remove apvfio from the host for good; return what failed, in sentences."""
    if on_host and not args.dry_run:
        # This also ends the leases of guests that no longer run.
        _return_all(system, args.force)
    require_unused(system, args.force)
    show(work, args)
    failed = []
    if not args.dry_run:
        failed = run_all(work.before)
        if on_host:
            # Returns that a stop has meanwhile deferred to the unit, which no longer exists.
            _return_all(system, args.force)
        # No guest may start between the last check and the removal of the hook.
        with system.lock() if on_host else nullcontext():
            require_unused(system, args.force)
            rest = manifest.change(args.root, system.files, known, work.found)
        if on_host:
            # A stop between the last reconciliation and the removal of the hook.
            _return_all(system, args.force)
        # The hook of a package is still there: what it writes from now on stays.
        with system.lock() if on_host else nullcontext():
            forgotten = forget(args.root, system)
        if not forgotten:
            work.notes.append("Guests still hold queues, or returns are pending: see 'apvfio status'.")
        failed += run_all(work.after)
        manifest.finish(args.root, system.files, rest)
    if (work.found or args.package) and system.files.size(AUDIT_LOG):
        work.notes.append(f"The audit log stays in /{AUDIT_LOG}.")
    return failed


def _remove(system: System, args: argparse.Namespace, known: manifest.Record, work: Work) -> list[str]:
    failed = run_all(work.before)
    rest = manifest.change(args.root, system.files, known, work.found)
    failed += run_all(work.after)
    manifest.finish(args.root, system.files, rest)
    return failed


def _return_all(system: System, force: bool) -> None:
    with ProgressLine() as progress:
        return_pending(system, force, progress)

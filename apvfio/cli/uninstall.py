# SPDX-License-Identifier: Apache-2.0
"""``apvfio uninstall``: what ``apvfio install`` has put in place, removed."""

from __future__ import annotations

import argparse
from contextlib import nullcontext

from apvfio.cli.installation import Work, add_options, end, is_host, run_all, show
from apvfio.cli.place import opened
from apvfio.cli.progress import Progress
from apvfio.events.trail import TRAIL
from apvfio.install import commands, record
from apvfio.install.removal import forget, pay, require_unused
from apvfio.install.tree import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.system import System


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("uninstall", help="take apvfio out of this host; its configuration stays")
    parser.add_argument("--force", action="store_true", help="even if guests hold queues")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove it."""
    with opened(args) as system:
        here = is_host(args, system)
        known = record.load(system.files)
        found = look(args.root, (), known.files)
        on_host = here and bool(found)
        work = Work(found, [], [], [], {}, [])
        if on_host:
            work = work._replace(before=commands.before_removal(), after=commands.after_removal())
        if on_host and not args.dry_run:
            # It also ends the leases of guests that run no more.
            _pay(system, args.force)
        require_unused(system, args.force)
        show(work, args)
        failed = [] if args.dry_run else _take_out(system, args, known, work, on_host)
        if found and system.files.size(TRAIL):
            work.notes.append(f"Who had which queue when stays in /{TRAIL}, for whoever asks later.")
    return end(work, args, failed)


def _take_out(
    system: System, args: argparse.Namespace, known: record.Record, work: Work, on_host: bool
) -> list[str]:
    """Do the work of an uninstall; what failed, in sentences."""
    failed = run_all(work.before)
    if on_host:
        # What a stop handed over meanwhile, to a unit that is no more.
        _pay(system, args.force)
    # No guest may start between the last look and the end of the hook.
    with system.lock() if on_host else nullcontext():
        require_unused(system, args.force)
        record.change(args.root, system.files, known, work.found)
    if not forget(args.root, system):
        work.notes.append("Guests still hold queues or the host is owed some: see 'apvfio status'.")
    return failed + run_all(work.after)


def _pay(system: System, force: bool) -> None:
    with Progress() as tell:
        pay(system, force, tell)

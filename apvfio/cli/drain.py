# SPDX-License-Identifier: Apache-2.0
"""``apvfio drain``: move guests away from adapters or domains before a planned change, and back after it."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apvfio.cli.confirm import add_yes, confirm
from apvfio.cli.host_options import add_area, add_connect, add_json, area_of, opened, print_result
from apvfio.cli.terminal import print_lines
from apvfio.cli.verbosity import add_verbosity, console
from apvfio.doctor.remedies import Words
from apvfio.libvirt.drain import (
    by_uuid,
    drain,
    find_drains,
    holders,
    plan_drain,
    plan_restore,
    restore,
)
from apvfio.libvirt.guests import Guests
from apvfio.model.errors import ApvfioError, Exit, RequestError, UsageError
from apvfio.model.matrix import Area
from apvfio.view.drain_report import drain_json, drain_lines, left_lines, restore_json, restore_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest

_HELP = """\
Guests that request queues by criteria get other queues while they run. The other guests
are listed, each with the command that stops it. Until --restore ends the drain, no guest
starts with a drained queue, also after a boot.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "drain", help="move guests away from adapters or domains before a planned change", description=_HELP
    )
    area = parser.add_mutually_exclusive_group()
    add_area(area, "queues on")
    area.add_argument("--all", action="store_true", help="all queues of the host")
    parser.add_argument(
        "--restore", action="store_true", help="end the drain, or all drains, and move guests back"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done; change nothing")
    add_yes(parser)
    add_connect(parser)
    add_verbosity(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Drain or restore; the exit code is that of a conflict if queues of the area are still held."""
    area = Area(everything=True) if args.all else area_of(args)
    with opened(args) as system:
        if args.restore:
            return _restore(args, system, area)
        if area is None:
            raise UsageError(
                "drain takes one of --adapter, --domain and --all.", remedy="See 'apvfio drain --help'."
            )
        return _drain(args, system, area)


def _drain(args: argparse.Namespace, system: System, area: Area) -> int:
    words = Words(args.sim or "", args.root, args.connect)
    with _running(args, needed=bool(holders(system, area))) as running:
        planned = plan_drain(system, area, running)
        if args.dry_run:
            document = drain_json(planned, planned, words, dry_run=True)
            print_result(args, document, drain_lines(planned, words, dry_run=True))
            return Exit.OK
        if not args.yes:
            print_lines(drain_lines(planned, words, dry_run=True), sys.stderr)
        confirm(args, f"Drain {area}?")
        done, left = drain(system, area, running)
    if args.quiet and not left.is_done:
        print_lines(left_lines(left, words), console(args))
    lines = [*drain_lines(done, words, dry_run=False), *left_lines(left, words)]
    print_result(args, drain_json(done, left, words, dry_run=False), lines)
    return Exit.OK if left.is_done else Exit.CONFLICT


def _restore(args: argparse.Namespace, system: System, area: Area | None) -> int:
    words = Words(args.sim or "", args.root, args.connect)
    drains = find_drains(system, area)
    known = find_drains(system, None)
    if known and not drains:
        raise RequestError(
            f"{area} is not drained; {', '.join(str(one.area) for one in known)} "
            f"{'is' if len(known) == 1 else 'are'}.",
            remedy="Name the area as when it was drained, or none to end all drains.",
        )
    moved = any(one.boot_id == system.boot_id for found in drains for one in found.moved)
    with _running(args, needed=moved) as running:
        planned = [plan_restore(system, found, running) for found in drains]
        if not args.dry_run:
            if planned and not args.yes:
                print_lines(restore_lines(planned, words, dry_run=True), sys.stderr)
            if planned:
                confirm(args, f"End the drain of {', '.join(str(found.area) for found in drains)}?")
            planned = [restore(system, found, running) for found in drains]
    document = restore_json(planned, words, dry_run=args.dry_run)
    print_result(args, document, restore_lines(planned, words, dry_run=args.dry_run))
    return Exit.OK


@contextmanager
def _running(args: argparse.Namespace, *, needed: bool) -> Iterator[dict[str, Guest]]:
    """libvirt's running guests by their uuids; none if its daemon does not answer and is not ``needed``."""
    try:
        guests = Guests(args.connect)
    except ApvfioError:
        if needed:
            raise
        yield {}
        return
    with guests:
        yield by_uuid(guests.all())

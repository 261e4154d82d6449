# SPDX-License-Identifier: Apache-2.0
"""``apvfio release``: return the queues of a guest to the host when libvirt does not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.confirm import add_yes, confirm
from apvfio.cli.guest_scope import warn_of_binding
from apvfio.cli.host_options import add_if_state, add_json, opened
from apvfio.cli.if_state import on_premise, state_of
from apvfio.cli.progress import ProgressLine
from apvfio.cli.reconcile import print_outcome
from apvfio.cli.verbosity import add_verbosity
from apvfio.engine.preview import preview_release
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import Exit, RequestError, UsageError, printable
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from apvfio.kernel.seam import System


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("release", help="return the queues of a guest that no longer runs")
    parser.add_argument(
        "guest", metavar="GUEST", help="name or UUID of the guest, as 'apvfio status' shows it"
    )
    parser.add_argument(
        "--force", action="store_true", help="take the queues even from a guest that uses them"
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
    )
    add_yes(parser)
    add_if_state(parser)
    add_verbosity(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Release and say what was done."""
    with opened(args) as found:
        state = state_of(found) if args.json else ""
        system = on_premise(found, args.if_state, state_of)
        uuid = _uuid(system, args.guest)
        for lease in ledger_file.load(system.files, system.boot_id).of_guest(uuid):
            warn_of_binding(lease)
        if args.dry_run:
            outcome, host = preview_release(system, uuid, force=args.force)
        else:
            if args.force:
                confirm(args, f"Take the queues of guest {printable(args.guest)} even while it uses them?")
            with ProgressLine(verbose=args.verbose) as progress:
                outcome = release_guest(system, uuid, force=args.force, progress=progress)
            host = read_host(system.sysfs)
    print_outcome(outcome, host, as_json=args.json, dry_run=args.dry_run, state=state)
    return Exit.OK


def _uuid(system: System, guest: str) -> str:
    leases = ledger_file.load(system.files, system.boot_id).leases.values()
    uuids = {lease.uuid for lease in leases if guest in (lease.guest, lease.uuid)}
    if not uuids:
        held = ", ".join(sorted(printable(lease.guest) for lease in leases)) or "none"
        raise RequestError(
            f"no guest {printable(guest)} holds queues.", remedy=f"Guests with a lease: {held}."
        )
    if len(uuids) > 1:
        raise UsageError(
            f"{len(uuids)} guests were named {printable(guest)}.",
            remedy=f"Name one by its uuid: {', '.join(sorted(uuids))}.",
        )
    return uuids.pop()

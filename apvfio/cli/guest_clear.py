# SPDX-License-Identifier: Apache-2.0
"""``apvfio guest clear``: a guest asks for nothing any more, and has nothing any more."""

from __future__ import annotations

import argparse
from functools import partial

from apvfio import live
from apvfio.cli.guest_scope import Edit, Scope, add_scope
from apvfio.cli.place import opened, print_json
from apvfio.cli.terminal import print_lines
from apvfio.errors import Exit
from apvfio.guest_xml import own_mdev, without_request
from apvfio.guests import Guests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.guests import Guest


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of the verb."""
    parser.add_argument(
        "--keep-hostdev",
        action="store_true",
        help="leave the device where it is, and to a running guest its queues",
    )
    add_scope(parser)


def run(args: argparse.Namespace) -> int:
    """Show what goes, and take it out."""
    with Guests(args.connect) as guests:
        guest = guests.find(args.guest)
        scope = Scope.of(args, guest)
        # A device with a uuid of somebody's choice was there before, or is meant to stay.
        mdev = None if args.keep_hostdev else own_mdev(guest.uuid)
        edit = Edit.of(guest, partial(without_request, mdev=mdev)) if scope.config else None
        edits = list(edit.lines()) if edit else []
        taken = None
        if scope.live and not args.keep_hostdev:
            taken = _take(args, guest)
        if not args.dry_run:
            if edit:
                edit.make(guest)
            if scope.live:
                guest.annotate(None, config=False, live=True)
    if args.json:
        print_json({"guest": guest.name, "device": taken, "definition": edits})
    else:
        done = "would lose" if args.dry_run else "has lost"
        print_lines([*edits, *([f"the running guest {done} its device {taken}"] if taken else [])])
    return Exit.OK


def _take(args: argparse.Namespace, guest: Guest) -> str | None:
    """The device that the running guest loses, None if it has none."""
    with opened(args) as system:
        if not args.dry_run:
            return live.take(system, guest)
        lease = live.lease_of(system, guest)
        return lease.mdev if lease else None

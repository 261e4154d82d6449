# SPDX-License-Identifier: Apache-2.0
"""``apvfio incoming``: what ``apvfio migrate`` has the destination do for a guest that will come."""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import TYPE_CHECKING

from apvfio.cli.guest_source import read_file
from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cli.plan import describe
from apvfio.cli.progress import ProgressLine
from apvfio.cli.reconcile import print_outcome
from apvfio.install.installed_files import HOOK
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt.hook import has_no_reader
from apvfio.migration import destination
from apvfio.model.errors import Exit, HostError, printable
from apvfio.store.system import on_this_machine
from apvfio.view.status_report import lease_json

if TYPE_CHECKING:
    from apvfio.kernel.seam import System

_STANDARD_OUTPUT = 1


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "incoming",
        help="free the queues of a guest that 'apvfio migrate' brings to this host",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-n", "--dry-run", action="store_true", help="show what would be done; change nothing")
    what.add_argument(
        "--give-up",
        action="store_true",
        help="return the queues that are held for the guest, which does not come",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Free the queues, preview that, or return them."""
    xml = read_file("-")
    with opened(args) as system, ProgressLine() as progress:
        if args.give_up:
            outcome = destination.give_up(system, xml, progress)
            print_outcome(outcome, read_host(system.sysfs), as_json=args.json)
        elif args.dry_run:
            _require_hook(system)
            preview = destination.preview(system, xml)
            print_result(args, preview.as_json(), describe(preview.plan))
        else:
            _require_hook(system)
            # The other host may have given up, or the connection to it may have broken.
            lease = destination.expect(system, xml, abandoned=partial(has_no_reader, _STANDARD_OUTPUT))
            waits = f"{lease.matrix} by way of {lease.mdev} wait for guest {printable(lease.guest)}"
            print_result(args, lease_json(lease), [waits])
    return Exit.OK


def _require_hook(system: System) -> None:
    """HostError if nothing would return the guest's queues here when it stops."""
    if on_this_machine(system) and not os.access(f"/{HOOK}", os.X_OK):
        raise HostError(
            "libvirt's hook, which returns a guest's queues when it stops, is not installed there.",
            remedy="Run 'apvfio install' on that host.",
        )

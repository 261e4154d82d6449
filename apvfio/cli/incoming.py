# SPDX-License-Identifier: Apache-2.0
"""``apvfio incoming``: the part of ``apvfio migrate`` that runs at the destination."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
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
from apvfio.libvirt.live_guest import this_process
from apvfio.migration import destination
from apvfio.migration.hold import END_OF_LETTER, await_end
from apvfio.model.errors import Exit, HostError, printable
from apvfio.store.system import on_this_machine
from apvfio.view.status_report import lease_json

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.progress import Progress

_STANDARD_INPUT = 0
_STANDARD_OUTPUT = 1
_PIECE = 1 << 16
_LONGEST_LETTER = 16 << 20


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
        help="return the queues that are held for the guest, because it will not arrive",
    )
    what.add_argument(
        "--hold",
        action="store_true",
        help="also prevent changes of masks and overrides until standard input ends, for a migration by the "
        "kernel",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Free the queues, preview that, or return them."""
    xml = _letter() if args.hold else read_file("-")
    with opened(args) as system, ProgressLine() as progress:
        if args.give_up:
            outcome = destination.give_up(system, xml, progress)
            print_outcome(outcome, read_host(system.sysfs), as_json=args.json)
        elif args.hold:
            _require_hook(system)
            _hold(system, xml, progress)
        elif args.dry_run:
            _require_hook(system)
            preview = destination.preview(system, xml)
            print_result(args, preview.as_json(), describe(preview.plan))
        else:
            _require_hook(system)
            # The other host may have given up, or the connection to it may have broken.
            lease = destination.expect(system, xml, abandoned=partial(has_no_reader, _STANDARD_OUTPUT))
            waits = (
                f"{lease.matrix} through mediated device {lease.mdev} wait for guest {printable(lease.guest)}"
            )
            print_result(args, lease_json(lease), [waits])
    return Exit.OK


def _letter() -> bytes:
    """What standard input has before `END_OF_LETTER`, without waiting for its end."""
    text = b""
    while END_OF_LETTER not in text and len(text) <= _LONGEST_LETTER:
        more = os.read(_STANDARD_INPUT, _PIECE)
        if not more:
            break
        text += more
    return text.partition(END_OF_LETTER)[0]


def _hold(system: System, xml: bytes, progress: Progress) -> None:
    """Refuse changes of masks and overrides until the other host closes the connection."""
    lease = destination.hold(system, xml, this_process(), abandoned=partial(has_no_reader, _STANDARD_OUTPUT))
    try:
        with suppress(OSError):  # nobody listens any more
            # One line, which the other host reads while this waits.
            print(json.dumps(lease_json(lease)), flush=True)
        await_end(_STANDARD_INPUT)
    finally:
        outcome = destination.let_go(system, lease.uuid, progress)
    for left in outcome.ledger.of_guest(lease.uuid):
        with suppress(OSError):
            print(json.dumps(lease_json(left)), flush=True)


def _require_hook(system: System) -> None:
    """HostError if nothing would return the guest's queues here when it stops."""
    if on_this_machine(system) and not os.access(f"/{HOOK}", os.X_OK):
        raise HostError(
            "libvirt's hook, which returns a guest's queues when it stops, is not installed there.",
            remedy="Run 'apvfio install' on that host.",
        )

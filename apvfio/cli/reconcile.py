# SPDX-License-Identifier: Apache-2.0
"""``apvfio reconcile``: finish what was interrupted, and make the pending returns that are due."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_if_state, add_json, opened, print_json, whole_number
from apvfio.cli.if_state import on_premise, state_of
from apvfio.cli.progress import ProgressLine
from apvfio.cli.verbosity import add_verbosity
from apvfio.engine.bus_wait import COMPLETE, wait_for_bus
from apvfio.engine.postponed import waits
from apvfio.engine.preview import preview_reconcile
from apvfio.engine.reconcile import reconcile_host
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import live_guest
from apvfio.model.errors import Exit, printable
from apvfio.plan.pending_returns import pending_returns
from apvfio.store.ledger_file import pending_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.engine.carry_out import Outcome
    from apvfio.model.host import Host
    from apvfio.plan.pending_returns import PendingReturn

_LONGEST_WAIT = 600
_LONGEST = 1000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("reconcile", help="bring the host to what the ledger says")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=whole_number(0, _LONGEST_WAIT),
        help="first wait up to SECONDS until the AP bus has found its queues",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--defer",
        action="store_true",
        help="leave returns that take longer than the policy's release-budget to apvfio-reconcile.service",
    )
    how.add_argument("-n", "--dry-run", action="store_true", help="show what would be done; change nothing")
    add_if_state(parser)
    add_verbosity(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reconcile and say what was done."""
    with opened(args) as place, ProgressLine(verbose=args.verbose) as progress:
        if args.wait is not None:
            found = wait_for_bus(place.sysfs, args.wait, progress)
            progress("")
            if found is None:
                print("this host has no AP bus: nothing to do", file=sys.stderr)
                return Exit.OK
            if not found.endswith(COMPLETE):
                print(f"{found} queues have a driver", file=sys.stderr)
        state = state_of(place) if args.json else ""
        system = on_premise(place, args.if_state, state_of)
        left: list[str] = []
        if args.dry_run:
            outcome, host = preview_reconcile(system)
            live_changes = live_guest.differences(system)
        else:
            outcome = reconcile_host(system, hurry=args.defer, progress=progress)
            live_changes, left = live_guest.reconcile_all(system)
            host = read_host(system.sysfs)
        waiting = [*left, *waits(system, outcome.ledger)]
    print_outcome(
        outcome,
        host,
        as_json=args.json,
        dry_run=args.dry_run,
        state=state,
        live_changes=live_changes,
        waiting=waiting,
    )
    return Exit.OK


def print_outcome(
    outcome: Outcome,
    host: Host,
    *,
    as_json: bool,
    dry_run: bool = False,
    state: str = "",
    live_changes: Sequence[str] = (),
    waiting: Sequence[str] = (),
) -> None:
    """Print the steps, taken or of a ``dry_run``, and what the host does not get back yet.

    ``host`` is as the steps leave it; the JSON has the ``state`` before the steps, if given. ``live_changes``
    says how interrupted live changes ended, ``waiting`` what a later reconcile will do and why, in sentences.
    """
    left = _still_pending(outcome, host)
    if as_json:
        steps = [step.as_json() for step in outcome.steps]
        print_json(
            {
                "dry_run": dry_run,
                "seen": outcome.seen,
                "steps": steps,
                "pending": pending_json(outcome.pending),
                "pending_returns": [one.as_json() for one in left],
                "deferred": outcome.deferred,
                "live_changes": list(live_changes),
                "waiting": list(waiting),
                "state": state or None,
            }
        )
        return
    for sentence in outcome.seen:
        print(f"seen: {sentence}")
    for step in outcome.steps:
        would = "would " if dry_run else ""
        print(f"{would}{step.op:<7} echo {printable(step.value.strip(), _LONGEST)} > /sys/{step.path}")
    if outcome.deferred:
        print("the rest is left to apvfio-reconcile.service")
        return
    for sentence in live_changes:
        print(f"{'would reconcile' if dry_run else 'reconciled'}: {sentence}")
    for sentence in waiting:
        print(f"waiting: {sentence}")
    if not (outcome.steps or live_changes or waiting):
        print("nothing to do")
    for one in left:
        print(f"{'would still be' if dry_run else 'still'} pending: {one} ({one.why})")


def _still_pending(outcome: Outcome, host: Host) -> list[PendingReturn]:
    """The returns still pending after ``outcome`` whose queues no guest needs, and what holds them up."""
    pending = outcome.pending
    rest = outcome.ledger._replace(pending=pending.pending, overrides=pending.overrides)
    return pending_returns(host, rest)

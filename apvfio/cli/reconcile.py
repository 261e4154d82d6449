# SPDX-License-Identifier: Apache-2.0
"""``apvfio reconcile``: finish what was left half done, pay debts that can be paid."""

from __future__ import annotations

import argparse
import sys

from apvfio import broker
from apvfio.bus import COMPLETE, wait_for_bus
from apvfio.cli.place import add_if_state, add_json, opened, print_json
from apvfio.cli.progress import Progress
from apvfio.errors import Exit, printable
from apvfio.foresight import foresee_reconcile
from apvfio.host import MASK_NAMES
from apvfio.ledgers import owed_json
from apvfio.premise import on_premise, state_of
from apvfio.settle import Outcome
from apvfio.wording import some_queues

_LONGEST_WAIT = 600
_LONGEST = 1000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("reconcile", help="make the host what the ledger says it should be")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        help="first wait so long for the AP bus to find its queues; no bus is no error",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--hand-over",
        action="store_true",
        help="leave what takes longer than the policy's release-budget to apvfio-reconcile.service",
    )
    how.add_argument("-n", "--dry-run", action="store_true", help="say what would be done; change nothing")
    add_if_state(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reconcile and say what was done."""
    with opened(args) as place, Progress() as tell:
        if args.wait is not None:
            found = wait_for_bus(place.sysfs, args.wait, tell)
            tell("")
            if found is None:
                print("this host has no AP bus: nothing to do", file=sys.stderr)
                return Exit.OK
            if not found.endswith(COMPLETE):
                print(f"{found} queues have a driver", file=sys.stderr)
        state = state_of(place) if args.json else ""
        system = on_premise(place, args.if_state, state_of)
        if args.dry_run:
            outcome = foresee_reconcile(system)
        else:
            outcome = broker.reconcile(system, hurry=args.hand_over, tell=tell)
    print_outcome(outcome, args.json, state)
    return Exit.OK


def print_outcome(outcome: Outcome, as_json: bool, state: str = "") -> None:
    """Print the steps taken and what is still owed, as JSON with the ``state`` before them, if given."""
    if as_json:
        steps = [step.as_json() for step in outcome.steps]
        print_json(
            {
                "seen": outcome.seen,
                "steps": steps,
                "unpaid": owed_json(outcome.unpaid),
                "handed_over": outcome.handed_over,
                **({"state": state} if state else {}),
            }
        )
        return
    for sentence in outcome.seen:
        print(f"seen: {sentence}")
    for step in outcome.steps:
        print(f"{step.op:<7} echo {printable(step.value.strip(), _LONGEST)} > /sys/{step.path}")
    if outcome.handed_over:
        print("the rest is left to apvfio-reconcile.service")
        return
    if not outcome.steps:
        print("nothing to do")
    unpaid = outcome.unpaid
    debts = [f"{name} {ids}" for name, ids in zip(MASK_NAMES, unpaid.owed, strict=True) if ids]
    if unpaid.overrides:
        debts.append(f"the driver_override of {some_queues(unpaid.overrides)}")
    for debt in debts:
        print(f"still owed to the host: {debt} (held by a mediated device that is not apvfio's)")


def _seconds(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _LONGEST_WAIT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {_LONGEST_WAIT}")

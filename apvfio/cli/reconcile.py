# SPDX-License-Identifier: Apache-2.0
"""``apvfio reconcile``: finish what was left half done, pay debts that can be paid."""

from __future__ import annotations

import argparse

from apvfio import broker
from apvfio.cli.place import add_json, opened, print_json
from apvfio.errors import Exit
from apvfio.host import MASK_NAMES
from apvfio.ledger import owed_json
from apvfio.wording import some_queues


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("reconcile", help="make the host what the ledger says it should be")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reconcile and say what was done."""
    with opened(args) as system:
        outcome = broker.reconcile(system)
    print_outcome(outcome, args.json)
    return Exit.OK


def print_outcome(outcome: broker.Outcome, as_json: bool) -> None:
    """Print the steps taken and what is still owed."""
    if as_json:
        steps = [step.as_json() for step in outcome.steps]
        print_json({"seen": outcome.seen, "steps": steps, "unpaid": owed_json(outcome.unpaid)})
        return
    for sentence in outcome.seen:
        print(f"seen: {sentence}")
    for step in outcome.steps:
        print(f"{step.op:<7} echo {step.value} > /sys/{step.path}")
    if not outcome.steps:
        print("nothing to do")
    unpaid = outcome.unpaid
    debts = [f"{name} {ids}" for name, ids in zip(MASK_NAMES, unpaid.owed, strict=True) if ids]
    if unpaid.overrides:
        debts.append(f"the driver_override of {some_queues(unpaid.overrides)}")
    for debt in debts:
        print(f"still owed to the host: {debt} (held by a mediated device that is not apvfio's)")

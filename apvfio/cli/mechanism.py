# SPDX-License-Identifier: Apache-2.0
"""``apvfio mechanism``: which mechanism decides the drivers of queues."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cli.progress import ProgressLine
from apvfio.cli.verbosity import add_verbosity
from apvfio.engine.mechanism import preview_switch, switch_mechanism
from apvfio.engine.state import look
from apvfio.model.errors import Exit, UsageError
from apvfio.model.host import MASK_NAMES, MASKS, OVERRIDES
from apvfio.model.ids import format_change, format_list
from apvfio.model.text import count_queues, mask_bits, some_queues
from apvfio.plan.mechanism import mechanism_of, mechanism_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.engine.mechanism import MechanismChange
    from apvfio.model.ids import IdSet
    from apvfio.model.matrix import Apqn


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("mechanism", help="show or switch the mechanism: masks or overrides")
    parser.add_argument(
        "mechanism",
        nargs="?",
        choices=(MASKS, OVERRIDES),
        help="switch to this mechanism until the next boot; only while there is no AP mediated device",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="show what would be done; change nothing"
    )
    add_verbosity(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it, after switching it if asked to."""
    if args.dry_run and not args.mechanism:
        raise UsageError("--dry-run requires a change to make.", remedy="See 'apvfio mechanism --help'.")
    done = None
    with opened(args) as system:
        if args.dry_run:
            done = preview_switch(system, args.mechanism)
        elif args.mechanism:
            with ProgressLine(verbose=args.verbose) as progress:
                done = switch_mechanism(system, args.mechanism, progress=progress)
        host, ledger, policy = look(system)
    facts = {
        "mechanism": mechanism_of(host, ledger, policy),
        "reason": mechanism_reason(host, ledger, policy),
        "overrides_possible": host.abilities.override,
    }
    lines = list(_lines(done, dry_run=args.dry_run)) if done else []
    if args.dry_run:
        lines = lines or [f"would switch to {args.mechanism}, which changes no mask and no queue"]
    else:
        lines.append(f"{facts['mechanism']}: {facts['reason']}")
    print_result(args, {**facts, "dry_run": args.dry_run, "change": done and _changed(done)}, lines)
    return Exit.OK


def _changed(done: MechanismChange) -> dict[str, object]:
    return {
        **{name: format_list(ids) for name, ids in _opened_masks(done)},
        "overrides": {str(queue): driver for queue, driver in sorted(done.before.overrides.items())},
        "moved": [str(queue) for queue in _moved(done)],
    }


def _lines(done: MechanismChange, *, dry_run: bool) -> Iterator[str]:
    """What the change did, or in a dry run would do, and the command that undoes it."""
    would, was = ("would ", "is") if dry_run else ("", "was")
    masks = [(name, ids) for name, ids in _opened_masks(done) if ids]
    for name, ids in masks:
        yield f"{would}set {mask_bits(name, ids)}, which {was} clear"
    if done.before.overrides and not done.after.overrides:
        verb = "would clear" if dry_run else "cleared"
        yield f"{verb} the driver_override of {some_queues(done.before.overrides)}"
    moved = _moved(done)
    if moved:
        verb = "would move" if dry_run else "moved"
        yield f"{verb} {count_queues(len(moved))} to another driver: {some_queues(moved)}"
    if masks:
        words = " ".join(f"{name}={format_change(ids)}" for name, ids in masks)
        yield (
            f"'apvfio mechanism masks' does not clear these bits again; 'apvfio masks --active {words}' does"
        )


def _opened_masks(done: MechanismChange) -> list[tuple[str, IdSet]]:
    now, then = (done.after.apmask, done.after.aqmask), (done.before.apmask, done.before.aqmask)
    return [(name, ids - was) for name, ids, was in zip(MASK_NAMES, now, then)]


def _moved(done: MechanismChange) -> list[Apqn]:
    return sorted(q for q, driver in done.after.drivers.items() if done.before.drivers.get(q) != driver)

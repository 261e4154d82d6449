# SPDX-License-Identifier: Apache-2.0
"""``apvfio mechanism``: which mechanism decides the drivers of queues."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_json, opened, print_result
from apvfio.cli.progress import ProgressLine
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.state import look
from apvfio.model.errors import Exit
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
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it, after switching it if asked to."""
    done = None
    with opened(args) as system:
        if args.mechanism:
            with ProgressLine() as progress:
                done = switch_mechanism(system, args.mechanism, progress=progress)
        host, ledger, policy = look(system)
    facts = {
        "mechanism": mechanism_of(host, ledger, policy),
        "reason": mechanism_reason(host, ledger, policy),
        "overrides_possible": host.abilities.override,
    }
    lines = [*(_lines(done) if done else ()), f"{facts['mechanism']}: {facts['reason']}"]
    print_result(args, {**facts, "change": done and _changed(done)}, lines)
    return Exit.OK


def _changed(done: MechanismChange) -> dict[str, object]:
    return {
        **{name: format_list(ids) for name, ids in _opened_masks(done)},
        "overrides": {str(queue): driver for queue, driver in sorted(done.before.overrides.items())},
        "moved": [str(queue) for queue in _moved(done)],
    }


def _lines(done: MechanismChange) -> Iterator[str]:
    """What the change did, and the command that undoes it."""
    masks = [(name, ids) for name, ids in _opened_masks(done) if ids]
    for name, ids in masks:
        yield f"set {mask_bits(name, ids)}, which was clear"
    if done.before.overrides and not done.after.overrides:
        yield f"cleared the driver_override of {some_queues(done.before.overrides)}"
    moved = _moved(done)
    if moved:
        yield f"moved {count_queues(len(moved))} to another driver: {some_queues(moved)}"
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

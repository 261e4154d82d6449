# SPDX-License-Identifier: Apache-2.0
"""``apvfio mode``: by which of the kernel's two mechanisms queues change hands here."""

from __future__ import annotations

import argparse

from apvfio import broker, serving
from apvfio.cli.place import add_json, opened, print_json
from apvfio.cli.progress import Progress
from apvfio.errors import Exit
from apvfio.host import MASKS, OVERRIDES
from apvfio.plan.mode import mode_of, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.system import System


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser("mode", help="show or switch the mechanism: masks or overrides")
    parser.add_argument(
        "mode",
        nargs="?",
        choices=(MASKS, OVERRIDES),
        help="switch to it, until the next boot; only while there is no AP mediated device",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it, after switching it if asked to."""
    with opened(args) as system:
        if args.mode:
            with Progress() as tell:
                broker.switch_mode(system, args.mode, tell=tell)
        facts = _facts(system)
    if args.json:
        print_json(facts)
    else:
        print(f"{facts['mode']}: {facts['why']}")
    return Exit.OK


def _facts(system: System) -> dict[str, object]:
    host, ledger, policy = serving.current(system)
    return {
        "mode": mode_of(host, ledger, policy),
        "why": why(host, ledger, policy),
        "override": host.abilities.override,
    }

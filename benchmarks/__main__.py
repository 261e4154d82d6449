# SPDX-License-Identifier: Apache-2.0
"""``benchmarks/run [--rounds N] [--quick] [--save FILE] [GOAL...]``: measure, and print the table."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING

from apvfio.model.errors import ApvfioError
from benchmarks.goals import Goal, table
from benchmarks.saved import save

if TYPE_CHECKING:
    from collections.abc import Iterator

GOALS = {
    1: "unannotated",
    2: "annotated",
    3: "writes",
    4: "planner",
    5: "snapshot",
    6: "starts",
    7: "growth",
    8: "instructions",
}
"""Which module measures which goal."""
_ROUNDS = 20
_QUICK = 1


def main(argv: list[str] | None = None) -> int:
    """Measure the goals asked for; 1 if one is missed or cannot be measured, 2 for a usage error."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Measure apvfio beside its peers.")
    known = "; ".join(f"{number} {name}" for number, name in GOALS.items())
    parser.add_argument("goals", nargs="*", type=int, metavar="GOAL", help=f"{known} (default: all)")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="how often each pair is run, in turns")
    parser.add_argument("--quick", action="store_true", help="one round: to see that it runs")
    parser.add_argument("--save", metavar="FILE", help="keep all times there, for 'python -m pyperf'")
    args = parser.parse_args(argv)
    if unknown := set(args.goals) - GOALS.keys():
        parser.error(f"there is no goal {', '.join(map(str, sorted(unknown)))}")
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    rounds = _QUICK if args.quick else args.rounds
    before = os.getloadavg()[0]
    found = [goal for number in args.goals or GOALS for goal in _measure(number, rounds)]
    print("\n".join(table(found)))
    print(
        f"\n{platform.python_implementation()} {platform.python_version()}, Linux {platform.release()} "
        f"{platform.machine()}, {os.cpu_count()} CPUs, {rounds} rounds, "
        f"load {before:.1f} at the beginning and {os.getloadavg()[0]:.1f} at the end"
    )
    if args.save:
        save(args.save, found)
    return 0 if all(goal.met for goal in found) else 1


def _measure(number: int, rounds: int) -> Iterator[Goal]:
    try:
        for goal in importlib.import_module(f"benchmarks.{GOALS[number]}").goals(rounds):
            found = goal._replace(number=number)
            print(f"{number}: {goal.what} / {goal.beside}: {goal.ratio:.3g}", file=sys.stderr, flush=True)
            yield found
    except (ApvfioError, ImportError) as error:
        yield Goal("it cannot be measured here", str(error), float("nan"), 0, number=number)


if __name__ == "__main__":
    sys.exit(main())

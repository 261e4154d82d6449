# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks [--rounds N] [PART...]``: measure, and print the table."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys

from benchmarks.goals import table

PARTS = ("hooks", "writes", "planner", "snapshot", "starts")


def main() -> int:
    """Measure the parts asked for; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"out of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=20, help="how often each pair is run (default: 20)")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    found = []
    for part in args.parts or PARTS:
        for goal in importlib.import_module(f"benchmarks.{part}").goals(args.rounds):
            print(f"{part}: {goal.what}: {goal.ratio:.3g}", file=sys.stderr, flush=True)
            found.append(goal)
    print("\n".join(table(found)))
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    print(
        f"\nPython {platform.python_version()}, Linux {platform.release()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs, load {load}, {args.rounds} rounds"
    )
    return 0 if all(goal.met for goal in found) else 1


if __name__ == "__main__":
    sys.exit(main())

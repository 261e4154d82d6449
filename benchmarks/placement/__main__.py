# SPDX-License-Identifier: Apache-2.0
"""``PYTHONPATH=tests python -m benchmarks.placement``: guests that get queues, beside the exact optimum."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from benchmarks.placement.clusters import invent
from benchmarks.placement.optimum import most_guests
from benchmarks.placement.scheduler import STRATEGIES, granted

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = {"3x8": (3, 8, 25), "4x12": (4, 12, 25), "8x24": (8, 24, 12)}
"""Hosts, guests, and how many clusters."""
GOAL = 0.97


def main(argv: list[str] | None = None) -> int:
    """Print a table; 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.placement", description=__doc__)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"{', '.join(SIZES)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first cluster")
    args = parser.parse_args(argv)
    sizes = args.sizes or list(SIZES)
    if not set(sizes) <= set(SIZES):
        parser.error(f"SIZE is one of {', '.join(SIZES)}")
    rows = list(_rows(sizes, args.seed))
    print("| hosts x guests | clusters | optimum | strategy | at once | in the end | of the optimum |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(map(str, row[:-1]))} | {row[-1]:.1%} |")
    return int(any(row[3] == "priorities" and row[-1] < GOAL for row in rows))


def _rows(sizes: list[str], seed: int) -> Iterator[tuple[str, int, int, str, int, int, float]]:
    for size in sizes:
        hosts, guests, count = SIZES[size]
        optimum, found = 0, {name: [0, 0] for name in STRATEGIES}
        for number in range(seed, seed + count):
            cluster = invent(hosts, guests, number)
            optimum += most_guests(cluster)
            for name in STRATEGIES:
                at_once, in_the_end = granted(cluster, name)
                found[name][0] += at_once
                found[name][1] += in_the_end
        for name, (at_once, in_the_end) in found.items():
            yield size, count, optimum, name, at_once, in_the_end, in_the_end / optimum


if __name__ == "__main__":
    sys.exit(main())

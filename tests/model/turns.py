# SPDX-License-Identifier: Apache-2.0
"""Every schedule of every meeting, on every kind of host, in which so many switches come unasked.

Of two actors at each write and each lock; of three at each lock.

    PYTHONPATH=tests python3 -m model.turns --switches 2

prints how many were tried and ends with 1 if a promise was broken, having told the schedules.
"""

from __future__ import annotations

import argparse
import sys

from model.befores import cells
from model.figures import Table
from model.stages import MEETINGS, SMALL, in_every_way

CROWDS = ("everybody",)
"""Those whose turns are too many: they meet by chance, in `model.soak`."""


def main(words: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="model.turns", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--switches", type=int, default=2, help="at most so many (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="WORDS", help="meetings whose name has these words")
    options = parser.parse_args(words)
    table, broken = Table(), 0
    for name in MEETINGS:
        if name in CROWDS or options.only not in name:
            continue
        for cell in cells():
            met = in_every_way(name, cell, options.switches, reads=False, locks=name not in SMALL)
            table.add(name, str(cell), met.tried)
            broken += len(met.broken)
            for line in met.broken[:3]:
                print(f"BROKEN: {line}", flush=True)
        print(f"{name}: {table.total} so far, {broken} broken", flush=True)
    print("\n".join(table.lines()))
    print(f"{table.total} schedules tried, {broken} broke a promise")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

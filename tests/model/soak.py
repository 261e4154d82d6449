# SPDX-License-Identifier: Apache-2.0
"""A soak of the model: seeded worlds one after the other, and between them meetings by chance.

    PYTHONPATH=tests python3 -m model.soak --steps 1000000 --seed 1

prints figures as it goes and ends with 1 if a promise was broken, having told the seed and the
shortest way to it that could be found.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from apvfio.sim.profile import PROFILES
from model.befores import cells
from model.menu import draw
from model.stages import MEETINGS, in_random_ways
from model.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.world import Op

_LENGTH = 80
"""Operations in one world."""
_WORLDS = 10
"""How many worlds there are to a meeting."""
_TELL_EACH = 10.0
"""Seconds between two lines of progress."""


class Violation(NamedTuple):
    """A broken promise and how to break it."""

    seed: str
    profile: str
    ops: list[Op]
    error: Exception

    def replay(self) -> None:
        """Break it again."""
        world = World(self.profile)
        for op in self.ops:
            world.do(op)

    def lines(self) -> list[str]:
        """To be read by a person."""
        how = "\n".join(f"    {op}" for op in self.ops)
        return [f"VIOLATION, seed {self.seed}, kernel {self.profile}: {self.error!r}", how]


class Soaked(NamedTuple):
    """What a soak did."""

    steps: int
    counts: Counter[str]
    violations: list[Violation]


def soak(steps: int, seed: int, tell: Callable[[str], None], most: int = 5) -> Soaked:
    """Run worlds until so many operations are done, or ``most`` violations found."""
    done, count, violations = 0, Counter[str](), list[Violation]()
    begun = told = time.monotonic()
    number = 0
    while done < steps and len(violations) < most:
        name = f"{seed}.{number}"
        number += 1
        dice = random.Random(name)
        world = World(dice.choice(sorted(PROFILES)))
        ops: list[Op] = []
        try:
            for n in range(_LENGTH):
                ops.append(draw(dice) if n < _LENGTH - 1 else ("settle",))
                world.do(ops[-1])
        except Exception as error:
            violations.append(shortest(Violation(name, world.profile, ops, error)))
            tell("\n".join(violations[-1].lines()))
        done += len(ops)
        count.update(world.count)
        if number % _WORLDS == 0:
            meeting, cell = dice.choice(list(MEETINGS)), dice.choice(list(cells()))
            count["schedules"] += 1
            for broken in in_random_ways(meeting, cell, name, 1).broken:
                violations.append(Violation(name, cell.profile, [], AssertionError(broken)))
                tell(broken)
        if time.monotonic() - told > _TELL_EACH:
            told = time.monotonic()
            tell(f"{done} steps, {done / (told - begun):.0f} a second, {len(violations)} violations")
    return Soaked(done, count, violations)


def shortest(violation: Violation) -> Violation:
    """The same violation with every operation left out that it does not need, as far as trying finds them."""
    kind, ops, error = _kind(violation.error), violation.ops, violation.error
    size = len(ops) // 2
    while size:
        n = 0
        while n < len(ops):
            fewer = ops[:n] + ops[n + size :]
            found = _error(violation.profile, fewer)
            if found and _kind(found) == kind:
                ops, error = fewer, found
            else:
                n += size
        size //= 2
    return violation._replace(ops=ops, error=error)


def _error(profile: str, ops: list[Op]) -> Exception | None:
    try:
        Violation("", profile, ops, Exception()).replay()
    except Exception as error:
        return error
    return None


def _kind(error: Exception) -> str:
    return type(error).__name__ + re.sub(r"[0-9a-f.,{}-]+", "#", str(error))[:40]


def main(words: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="model.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--steps", type=int, default=100_000, help="how many operations (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="where to begin (default: %(default)s)")
    options = parser.parse_args(words)
    begun = time.monotonic()
    found = soak(options.steps, options.seed, lambda line: print(line, flush=True))
    seconds = time.monotonic() - begun
    print(f"{found.steps} steps in {seconds:.0f} s, {found.steps / seconds:.0f} a second")
    for kind, n in found.counts.most_common():
        print(f"{n:10}  {kind}")
    print(f"{len(found.violations)} violations")
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())

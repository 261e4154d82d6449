# SPDX-License-Identifier: Apache-2.0
"""Two things measured side by side: A B A B, so that whatever else the machine does befalls both."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    Measured = TypeVar("Measured")


class Pair(NamedTuple):
    """The seconds that two things took, round by round."""

    ours: list[float]
    peers: list[float]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self._ratios())

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the rounds' ratios."""
        ratios = self._ratios()
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return low, high

    @property
    def medians(self) -> tuple[float, float]:
        """The medians of both, in seconds."""
        return statistics.median(self.ours), statistics.median(self.peers)

    def _ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peers)]


def side_by_side(ours: Callable[[], float], peer: Callable[[], float], rounds: int) -> Pair:
    """Run both so many times, in turns, after one round that does not count; each says what it took."""
    return Pair(*turns([ours, peer], rounds))


def turns(works: Sequence[Callable[[], Measured]], rounds: int) -> list[list[Measured]]:
    """What each of ``works`` says it took, round by round; all have a turn in each round, in this order.

    One round before them does not count.
    """
    found = [[work() for work in works] for _ in range(rounds + 1)][1:]
    return [list(column) for column in zip(*found)]


def timed(work: Callable[[], object], times: int = 1) -> float:
    """Seconds of wall time for one of ``times`` runs, without the collection of garbage."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begin) / times
    finally:
        gc.enable()


class Cost(NamedTuple):
    """What a process and those it waited for took, in seconds."""

    wall: float
    cpu: float


def process(argv: Sequence[str], stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Cost:
    """Run a process to its end, which must be a good one and silent."""
    begin = time.perf_counter()
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    )
    assert child.stdin
    assert child.stdout
    try:
        child.stdin.write(stdin)
        child.stdin.close()
    except BrokenPipeError:  # it has ended without reading, as hooks may
        child.stdin = None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    if child.returncode or said:
        raise RuntimeError(f"{argv} ended with {child.returncode}: {said.decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)

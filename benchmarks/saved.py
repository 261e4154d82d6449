# SPDX-License-Identifier: Apache-2.0
"""All times of a run in pyperf's format: ``python -m pyperf stats FILE``, ``compare_to OLD NEW``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyperf

    from benchmarks.goals import Goal


def save(path: str, goals: Iterable[Goal]) -> None:
    """Write the times of ``goals`` to the file ``path``, over what was there; counts are not among them."""
    import pyperf  # noqa: PLC0415

    suite = pyperf.BenchmarkSuite([one for goal in goals for one in _benchmarks(goal)])
    suite.dump(path, replace=True)


def _benchmarks(goal: Goal) -> Iterator[pyperf.Benchmark]:
    import pyperf  # noqa: PLC0415

    if goal.pair is None:
        return
    both = f"{goal.number}: {goal.what}, beside {goal.beside}"
    for name, times in ((both, goal.pair.ours), (f"{both}: the other", goal.pair.peers)):
        metadata = {"name": name, "unit": "second"}
        yield pyperf.Benchmark([pyperf.Run(times, metadata=metadata, collect_metadata=False)])

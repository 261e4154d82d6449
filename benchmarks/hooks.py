# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook as processes: guests that are none of its business, and those that are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from apvfio.host import read_host
from apvfio.lab.guest import guest_xml
from apvfio.mask import IdSet
from apvfio.matrix import Matrix
from apvfio.sysfs import RealSysfs
from benchmarks.goals import Goal, measured
from benchmarks.measure import process, side_by_side
from benchmarks.mounted import PYTHON, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.mounted import Mounted

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
OPERATIONS = ("prepare", "start", "started", "stopped", "release")
"""What libvirt calls in the life of a guest, in this order."""
_HOST = (0, 1, 10), (1, 2, 4, 27)
"""IBM's example; a full host's snapshot has a figure of its own."""
_MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
_WISH = Matrix(IdSet([0, 10]), IdSet([1, 4, 27]), IdSet([1, 4, 27]))
_BARE = [PYTHON, "-I", "-S", "-c", "pass"]


def goals(rounds: int) -> Iterator[Goal]:
    """Both kinds of guests."""
    with mounted(*_HOST) as host:
        yield from _not_ours(host, rounds)
        yield from _ours(host, rounds)


def _not_ours(host: Mounted, rounds: int) -> Iterator[Goal]:
    xml = guest_xml("plain").encode()

    def five(argv: Sequence[str]) -> float:
        return sum(process([*argv, "plain", op, "begin", "-"], xml, host.env).wall for op in OPERATIONS)

    for beside, argv, bound in (
        ("a minimal hook in sh", [f"{PEERS}/minimal-hook.sh"], 1.5),
        ("a hook that imports lxml", [PYTHON, "-I", f"{PEERS}/lxml-hook.py"], 0.25),
    ):
        pair = side_by_side(lambda: five([host.hook]), lambda argv=argv: five(argv), rounds)  # type: ignore[misc]
        yield measured("guest without annotation, its five operations", beside, pair, bound)


def _ours(host: Mounted, rounds: int) -> Iterator[Goal]:
    xml = guest_xml("db1", _WISH, _MDEV).encode()
    sysfs = RealSysfs(host.root)
    before = read_host(sysfs)

    def start_and_stop(*argv: Sequence[str]) -> float:
        seconds = process(argv[0], xml, host.env).wall
        assert read_host(sysfs).mdevs == {_MDEV: _WISH}
        seconds += process(argv[1], xml, host.env).wall
        assert read_host(sysfs) == before
        return seconds

    hook = [[host.hook, "db1", op, "begin", "-"] for op in ("prepare", "release")]
    hand = [[f"{PEERS}/by-hand.sh", host.root, op] for op in ("prepare", "release")]
    pair = side_by_side(lambda: start_and_stop(*hook), lambda: start_and_stop(*hand), rounds)
    yield measured(
        "annotated guest, prepare and release, 12 queues", "a script that does it by hand", pair, 1
    )

    def cpu() -> float:
        first, second = (process(argv, xml, host.env).cpu for argv in hook)
        return first + second

    pair = side_by_side(cpu, lambda: process(_BARE).cpu + process(_BARE).cpu, rounds)
    yield measured(
        "the same, CPU time without the simulated kernel's", "'python3 -I -S -c pass' twice", pair, 2
    )

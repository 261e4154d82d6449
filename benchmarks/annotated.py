# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook for a guest that gets queues, as processes, beside what a person's script would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import read_host
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from benchmarks.goals import measured
from benchmarks.measure import process, side_by_side
from benchmarks.mounted import PEERS, PYTHON, in_place_of_sys, mounted
from lab.guest import guest_xml
from lab.namespace import require_commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.goals import Goal
    from benchmarks.mounted import Mounted

_HOST = (0, 1, 10), (1, 2, 4, 27)
"""IBM's example; a full host's snapshot has a figure of its own."""
_MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
_WISH = Matrix(IdSet([0, 10]), IdSet([1, 4, 27]), IdSet([1, 4, 27]))
_OPERATIONS = ("prepare", "release")
_BARE = [PYTHON, "-I", "-S", "-c", "pass"]
_NEEDED = {"xmllint": "libxml2-utils", "mdevctl": "mdevctl", "umount": "mount"}


def goals(rounds: int) -> Iterator[Goal]:
    """Wall time beside the script, CPU time beside an interpreter that does nothing."""
    require_commands(_NEEDED)
    with mounted(*_HOST) as host, in_place_of_sys(host):
        yield from _goals(host, rounds)


def _goals(host: Mounted, rounds: int) -> Iterator[Goal]:
    xml = guest_xml("db1", _WISH, _MDEV).encode()
    sysfs = RealSysfs(host.root)
    before = read_host(sysfs)

    def start_and_stop(*argv: Sequence[str]) -> float:
        """Both operations; that each did its work is looked at between."""
        seconds = process(argv[0], xml, host.env).wall
        assert read_host(sysfs).mdevs == {_MDEV: _WISH}
        seconds += process(argv[1], xml, host.env).wall
        assert read_host(sysfs) == before
        return seconds

    hook = [[host.hook, "db1", op, "begin", "-"] for op in _OPERATIONS]
    hand = [[f"{PEERS}/by-hand.sh", op] for op in _OPERATIONS]
    pair = side_by_side(lambda: start_and_stop(*hook), lambda: start_and_stop(*hand), rounds)
    what = f"annotated guest with {len(list(_WISH.queues()))} queues, prepare and release"
    yield measured(what, "a script that does it by hand", pair, 1)

    def bare() -> float:
        return sum(process(_BARE).wall for _ in _OPERATIONS)

    pair = side_by_side(bare, lambda: start_and_stop(*hand), rounds)
    yield measured("'python3 -I -S -c pass' twice", "a script that does it by hand", pair)

    def cpu() -> float:
        return sum([process(argv, xml, host.env).cpu for argv in hook])

    pair = side_by_side(cpu, lambda: sum(process(_BARE).cpu for _ in _OPERATIONS), rounds)
    yield measured(f"{what}: CPU time but the simulated kernel's", "'python3 -I -S -c pass' twice", pair, 2)

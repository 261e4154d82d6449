# SPDX-License-Identifier: Apache-2.0
"""libvirt's hook for a guest that gets queues, beside bare interpreters and the documented procedure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.kernel.snapshot import read_host
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.ids import IdSet, format_list
from apvfio.model.matrix import Matrix
from benchmarks.goals import measured
from benchmarks.measure import Cost, Pair, process, turns
from benchmarks.plain_host import PEERS, PYTHON, in_place_of_sys, plain_host
from lab.guest import guest_xml
from lab.namespace import require_commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.goals import Goal
    from benchmarks.plain_host import PlainHost

HOST = (0, 1, 10), (1, 2, 4, 27)
"""IBM's example; a full host's snapshot has a figure of its own."""
MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
MATRIX = Matrix(IdSet([0, 10]), IdSet([1, 4, 27]), IdSet([1, 4, 27]))
XML = guest_xml("db1", MATRIX, MDEV).encode()
BARE = [PYTHON, "-I", "-S", "-c", "pass"]
_NEEDED = {"mdevctl": "mdevctl", "umount": "mount"}
_WHAT = f"prepare and release of a guest with {len(list(MATRIX.queues()))} queues"
_BARE, _PEER = "'python3 -I -S -c pass' twice", "the documented procedure"
_MOST = {_BARE: 3.0, _PEER: 2.3}


class Call(NamedTuple):
    """One half of a guest's life, by one of the two."""

    argv: list[str]
    xml: bytes = b""


def hook_calls(host: PlainHost, name: str = "db1", xml: bytes = XML) -> tuple[Call, Call]:
    """libvirt's calls of the hook before the start of the guest and after its end."""
    begin, end = ([host.hook, name, *words, "-"] for words in (("prepare", "begin"), ("release", "end")))
    return Call(begin, xml), Call(end, xml)


def goals(rounds: int) -> Iterator[Goal]:
    """CPU time and wall time of the pair beside the two others, which take their turns in each round."""
    require_commands(_NEEDED)
    with plain_host(*HOST, [MDEV]) as host, in_place_of_sys(host):
        ids = format_list(MATRIX.adapters), format_list(MATRIX.domains)
        script = tuple(Call([f"{PEERS}/procedure.sh", half, MDEV, *ids]) for half in ("start", "stop"))
        ours, bare, peer = turns(
            [
                lambda: _start_and_stop(host, hook_calls(host)),
                lambda: _sum([process(BARE), process(BARE)]),
                lambda: _start_and_stop(host, script),
            ],
            rounds,
        )
    for beside, others in ((_BARE, bare), (_PEER, peer)):
        cpu = Pair([cost.cpu for cost in ours], [cost.cpu for cost in others])
        yield measured(f"{_WHAT}: CPU time", beside, cpu, _MOST[beside])
        wall = Pair([cost.wall for cost in ours], [cost.wall for cost in others])
        yield measured(f"{_WHAT}: wall time", beside, wall)


def _start_and_stop(host: PlainHost, calls: tuple[Call, ...]) -> Cost:
    """Both operations; that each did its work is checked in between."""
    sysfs = RealSysfs(str(host.root))
    before = read_host(sysfs)
    start = process(calls[0].argv, calls[0].xml, host.env)
    now = read_host(sysfs)
    assert now.mdevs == {MDEV: MATRIX}
    assert not MATRIX.adapters & now.apmask
    stop = process(calls[1].argv, calls[1].xml, host.env)
    assert read_host(sysfs) == before
    return _sum([start, stop])


def _sum(costs: list[Cost]) -> Cost:
    return Cost(sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs))

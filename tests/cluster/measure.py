# SPDX-License-Identifier: Apache-2.0
"""What a cluster of three nodes with nine guests takes for its work, measured on the real programs.

    PYTHONPATH=tests .venv/bin/python -m cluster.measure --seed 1

Nodes are killed, nodes are evacuated, and the publisher is watched while nothing changes. It ends with exit
code 1 if a guest that has a place did not run again, or ran on two hosts.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster.cib_version import cib_version
from cluster.lab_node import KEY
from cluster.three_nodes import ThreeNodes

if TYPE_CHECKING:
    from collections.abc import Iterable

GUESTS = {
    "db1": "mode=ep11,domains=2",
    "db2": "mode=ep11,domains=2",
    "db3": f"mode=ep11,mkvp={KEY[:32]}",
    **{f"db{number}": "mode=ep11" for number in range(4, 7)},
    **{f"web{number}": "mode=cca" for number in range(1, 4)},
}
"""On each host six queues are ep11 and six cca: any two hosts have queues for all guests."""
_PATIENCE = 60.0
_QUIET = 60.0
_LOOKS = 10


class Kill(NamedTuple):
    """What followed the death of a node."""

    node: str
    seconds: dict[str, float]
    """By guest the time from the death until its processors ran on another node."""
    lost: list[str]
    """Guests that did not run again."""

    def __str__(self) -> str:
        times = ", ".join(f"{guest} {seconds:.1f}" for guest, seconds in sorted(self.seconds.items()))
        lost = f"; not again: {', '.join(self.lost)}" if self.lost else ""
        return f"{self.node} killed: {times or 'no guests'}{lost}"


class Evacuation(NamedTuple):
    """What followed when a node was set to standby."""

    node: str
    seconds: float
    pauses: dict[str, float]
    """By guest the time in which its processors ran nowhere."""
    live: bool
    """Whether no guest was started anew."""

    @property
    def each(self) -> float:
        """Seconds for each guest."""
        return self.seconds / len(self.pauses)

    def __str__(self) -> str:
        how = "live" if self.live else "not all live"
        return (
            f"{self.node} in standby: {len(self.pauses)} guests in {self.seconds:.1f} s,"
            f" {self.each:.1f} s each, {how}, at most {max(self.pauses.values()):.2f} s without processors"
        )


def kill(cluster: ThreeNodes, node: str) -> Kill:
    """Kill ``node``, wait for its guests, and boot it again."""
    before = cluster.where()
    victims = [guest for guest, host in before.items() if host == node]
    since = time.time()
    cluster.nodes[node].crash()
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and not _all_run(cluster, node):
        time.sleep(0.1)
    seconds = {}
    for guest in victims:
        elsewhere = [
            one.t for one in cluster.watcher.history(guest, since)[1:] if one.node not in (None, node)
        ]
        if elsewhere:
            seconds[guest] = elsewhere[0] - since
    lost = sorted(GUESTS.keys() - cluster.where().keys())
    if lost:
        print(cluster.state(), file=sys.stderr)
    cluster.mend()
    cluster.wait_for(GUESTS)
    cluster.wait_idle()
    return Kill(node, seconds, lost)


def _all_run(cluster: ThreeNodes, without: str) -> bool:
    where = cluster.where()
    return where.keys() >= GUESTS.keys() and without not in where.values()


def evacuate(cluster: ThreeNodes, node: str) -> Evacuation:
    """Set ``node`` to standby, wait until it is empty, and end that."""
    guests = [guest for guest, host in cluster.where().items() if host == node]
    since = time.time()
    cluster.run("crm_standby", "--node", node, "--update", "on")
    cluster.wait(lambda: _all_run(cluster, node), "the evacuation")
    cluster.wait_idle()
    moved = [cluster.watcher.history(guest, since)[-1].t for guest in guests]
    pauses = {guest: cluster.watcher.without(guest, since) for guest in guests}
    live = all(cluster.watcher.was_always_there(guest, since) for guest in guests)
    cluster.run("crm_standby", "--node", node, "--delete")
    cluster.wait_idle()
    return Evacuation(node, max(moved) - since, pauses, live)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m cluster.measure", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--evacuations", type=int, default=6)
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    work = Path(tempfile.mkdtemp(prefix="apvfio-cluster-"))
    work.chmod(0o755)
    with ThreeNodes(work, GUESTS) as cluster:
        since = time.time()
        cluster.configure()
        cluster.wait_for(GUESTS)
        _say(f"configured until all run: {time.time() - since:.1f} s")
        cluster.wait_idle()
        _say(_looks(cluster))
        evacuations = []
        for _ in range(args.evacuations):
            evacuations.append(evacuate(cluster, _busy(cluster, rng)))
            _say(str(evacuations[-1]))
        kills = []
        for _ in range(args.kills):
            kills.append(kill(cluster, _busy(cluster, rng)))
            _say(str(kills[-1]))
        twice = cluster.watcher.twice()
    looks = cluster.watcher.looks()
    times = [seconds for one in kills for seconds in one.seconds.values()]
    first = [min(one.seconds.values()) for one in kills if one.seconds]
    lost = [guest for one in kills for guest in one.lost]
    _say(f"kills: {len(kills)}, guests {len(times)}, not again {len(lost)}{_spread(times)}")
    _say(f"the first guest of each kill{_spread(first)}")
    each = [one.each for one in evacuations]
    restarted = sum(not one.live for one in evacuations)
    _say(f"evacuations: {len(each)}, not live {restarted}{_spread(each)} a guest")
    _say(
        f"guests on two hosts: {len(twice)} of {looks.number} looks ({looks.rate:.1f} a second,"
        f" at most {looks.longest:.2f} s between two)"
    )
    _say(f"load: {os.getloadavg()[2]:.1f} on {os.cpu_count()} processors")
    return 1 if lost or twice else 0


def _looks(cluster: ThreeNodes) -> str:
    node = cluster.up[0]
    time.sleep(15)  # what was begun is recorded
    before = cib_version(cluster)
    time.sleep(_QUIET)
    written = "nothing" if cib_version(cluster) == before else "something"
    seconds = []
    for _ in range(_LOOKS):
        begin = time.monotonic()
        node.run("apvfio", "cluster", "publish")
        seconds.append(time.monotonic() - begin)
    return f"publishing: {written} written in {_QUIET:.0f} s; one look{_spread(seconds)}"


def _busy(cluster: ThreeNodes, rng: random.Random) -> str:
    return rng.choice(sorted(set(cluster.where().values())))


def _spread(values: Iterable[float]) -> str:
    found = sorted(values)
    if not found:
        return ""
    middle = statistics.median(found)
    return f": median {middle:.2f} s, {found[0]:.2f} to {found[-1]:.2f} s"


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

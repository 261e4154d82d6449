# SPDX-License-Identifier: Apache-2.0
"""Three real nodes, whose daemons and guests are killed, and guests that Pacemaker moves: where they end."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from cluster.cib_version import cib_version
from cluster.settled import GUESTS, settled

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from cluster.lab_node import LabNode
    from cluster.three_nodes import ThreeNodes

pytestmark = pytest.mark.slow
SSHD = "/usr/sbin/sshd -D -e"
QEMU = "qemu-system-s390x"


def test_a_guest_outlives_its_libvirtd(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    lab, since = three.nodes[before[guest]].lab, time.time()
    lab.libvirtd.crash()
    time.sleep(rng.uniform(0, 25))  # one look of Pacemaker's, or two, may be in between
    lab.libvirtd.start()
    time.sleep(12)
    assert settled(three) == before
    assert three.watcher.without(guest, since) == 0


def test_a_publisher_that_is_killed_takes_nothing_away(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    node = three.nodes[rng.choice([*three.nodes])]
    attributes, since = three.attributes(node.name), time.time()
    for _ in range(3):
        three.wait(lambda: bool(_publishers(three, node.name)), "a publisher")
        for pid in _publishers(three, node.name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    three.wait(
        lambda: node.name in three.run("crm_resource", "--resource", "queues", "--locate"), "a new start"
    )
    assert settled(three) == before
    assert {k: v for k, v in three.attributes(node.name).items() if k.startswith("apvfio-")} == {
        k: v for k, v in attributes.items() if k.startswith("apvfio-")
    }
    assert all(three.watcher.without(guest, since) == 0 for guest in GUESTS)
    version = cib_version(three)
    time.sleep(25)
    assert cib_version(three) == version


def _publishers(three: ThreeNodes, node: str) -> list[int]:
    """The processes of apvfio, and of the agent above it, that publish on the node."""
    return three.nodes[node].lab.running("cluster publish", "resource.d/apvfio/Queues")


def test_a_guest_that_is_killed_is_started_again(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    since = time.time()
    lab = three.nodes[before[guest]].lab
    (pid,) = {*lab.running(f"guest={guest},")} & {*lab.pids(QEMU)}
    os.kill(pid, signal.SIGKILL)
    three.wait(lambda: len(three.watcher.history(guest, since)) == 3, "its new start")
    after = settled(three)
    assert {name: node for name, node in after.items() if name != guest} == {
        name: node for name, node in before.items() if name != guest
    }
    assert three.watcher.without(guest, since) < 25
    assert shows_failure(three, guest, "monitor", before[guest])


def test_a_guest_is_moved_live(three: ThreeNodes, rng: random.Random) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    target = rng.choice(sorted({*three.nodes} - {before[guest]}))
    since = time.time()
    with moved(three, guest, target):
        assert settled(three) == {**before, guest: target}
    assert three.watcher.was_always_there(guest, since)
    assert f"apvfio_migration_{guest}" not in three.attributes(before[guest])


@pytest.mark.parametrize("lacks", ["device", "ssh"])
def test_a_destination_that_refuses_leads_to_a_running_guest(
    three: ThreeNodes, rng: random.Random, lacks: str
) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    target = rng.choice(sorted({*three.nodes} - {before[guest]}))
    with _refusing(three.nodes[target], lacks) as sentence, moved(three, guest, target):
        assert settled(three) == {**before, guest: target}
        assert shows_failure(three, guest, "migrate_to", before[guest])
        assert sentence in three.attributes(before[guest])[f"apvfio_migration_{guest}"]
        assert f"apvfio_migration_{guest}" in three.state()


@contextmanager
def _refusing(node: LabNode, lacks: str) -> Iterator[str]:
    """A node to which no guest can be migrated, though one can start there; what the sentence says of it."""
    if lacks == "device":
        node.sh("touch /var/lib/libvirt/full")
        try:
            yield "Bus 'ap-bus' is full"
        finally:
            node.sh("rm /var/lib/libvirt/full")
    else:
        for pid in node.lab.running(SSHD):
            os.kill(pid, signal.SIGKILL)
        try:
            yield "ssh"
        finally:
            node.sh(f"{SSHD} </dev/null >/dev/null 2>&1 &")


@pytest.mark.parametrize("hangs", ["apvfio", "destination"])
def test_a_migration_that_hangs_ends_with_a_running_guest(
    three: ThreeNodes, rng: random.Random, hangs: str
) -> None:
    before = settled(three)
    guest = rng.choice([*GUESTS])
    target = rng.choice(sorted({*three.nodes} - {before[guest]}))
    _set_timeout(three, guest, "20s")
    try:
        frozen = three.nodes[target].lab if hangs == "destination" else None
        if frozen:
            frozen.libvirtd.freeze()
        with moved(three, guest, target, wait=False):
            source = three.nodes[before[guest]].lab
            three.wait(lambda: bool(source.running(f"migrate {guest}")), "the migration")
            time.sleep(rng.uniform(0, 1.5))
            if not frozen:
                for pid in source.running(f"migrate {guest}"):
                    os.kill(pid, signal.SIGSTOP)
            three.wait(lambda: bool(shows_failure(three, guest, "migrate_to", before[guest])), "the failure")
            if frozen:
                frozen.libvirtd.thaw()
            three.wait_for(GUESTS)
            after = settled(three)
            assert set(after) == set(GUESTS)
    finally:
        _set_timeout(three, guest, "300s")


class moved:  # noqa: N801
    """Pacemaker is told to move a guest, and that is undone."""

    def __init__(self, three: ThreeNodes, guest: str, target: str, *, wait: bool = True) -> None:
        self._three, self._guest, self._target, self._wait = three, guest, target, wait

    def __enter__(self) -> None:
        self._three.run("crm_resource", "--resource", self._guest, "--move", "--node", self._target)
        if self._wait:
            self._three.wait_idle()

    def __exit__(self, *_: object) -> None:
        self._three.run("crm_resource", "--resource", self._guest, "--clear")


def shows_failure(three: ThreeNodes, guest: str, action: str, node: str) -> str:
    """What crm_mon says of a failed action; nothing if it shows none."""
    lines = [
        line
        for line in three.state().splitlines()
        if re.search(rf"{guest}\b.*\b{action}\b.* on {node}", line)
    ]
    return lines[-1] if lines else ""


def _set_timeout(three: ThreeNodes, guest: str, timeout: str) -> None:
    xml = f'<op id="{guest}-migrate_to" timeout="{timeout}"/>'
    three.run("cibadmin", "--modify", "--scope", "resources", "--xml-text", xml)


def test_the_doctor_of_a_node_finds_no_fault(three: ThreeNodes) -> None:
    settled(three)
    done = three.nodes["n1"].result(sys.executable, "-m", "apvfio", "doctor", "--json")
    checks = [check for check in json.loads(done.stdout)["checks"] if check["group"] == "cluster"]
    assert {check["state"] for check in checks} == {"ok"}, checks
    assert {"fencing", "published", "cluster-guest", "cluster-ssh"} <= {check["id"] for check in checks}

# SPDX-License-Identifier: Apache-2.0
"""The cluster of three nodes with three guests as a fixture, mended after each test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from cluster.held_queues import held_queues
from cluster.three_nodes import ThreeNodes

if TYPE_CHECKING:
    from collections.abc import Iterator

GUESTS = {"db1": "mode=ep11,domains=2", "db2": "mode=ep11", "web1": "mode=cca"}


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    """The cluster; where there can be none the test is skipped, but in CI it fails."""
    work = tmp_path_factory.mktemp("three")
    # QEMU, which is nobody in particular, reads below.
    for directory in (work, *work.parents[:2]):
        directory.chmod(0o755)
    made = ThreeNodes(work, GUESTS)
    try:
        made.__enter__()
    except HostError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    try:
        made.configure()
        yield made
    finally:
        made.__exit__(None, None, None)


@pytest.fixture
def three(one_cluster: ThreeNodes) -> Iterator[ThreeNodes]:
    """The cluster with all nodes online and all guests running; no guest may run on two hosts."""
    one_cluster.mend()
    one_cluster.wait_for(GUESTS)
    one_cluster.wait_idle()
    yield one_cluster
    assert one_cluster.watcher.twice() == []


def settled(cluster: ThreeNodes) -> dict[str, str]:
    """Where each guest runs when Pacemaker is idle; it holds its queues there, and nowhere else."""
    cluster.wait_idle()
    where = cluster.where()
    for node in cluster.up:
        held = held_queues(node)
        here = {guest for guest, name in where.items() if name == node.name}
        assert set(held) == here, (node.name, held, where)
        for guest, queues in held.items():
            assert len(queues) == (2 if guest == "db1" else 1), held
    return where

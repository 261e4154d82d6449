# SPDX-License-Identifier: Apache-2.0
"""The cluster of three nodes with three guests, and the seed of what happens to it."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from cluster.settled import GUESTS
from cluster.three_nodes import ThreeNodes
from where_possible import where_possible

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    """The cluster; where there can be none the test is skipped, but in CI it fails."""
    work = tmp_path_factory.mktemp("three")
    # QEMU, which is nobody in particular, reads below.
    for directory in (work, *work.parents[:2]):
        directory.chmod(0o755)
    with where_possible(ThreeNodes(work, GUESTS)) as made:
        made.configure()
        yield made


@pytest.fixture
def three(one_cluster: ThreeNodes) -> Iterator[ThreeNodes]:
    """The cluster with all nodes online and all guests running.

    No guest may run on two hosts, and no queue have two owners, whatever the test does.
    """
    one_cluster.mend()
    one_cluster.wait_for(GUESTS)
    one_cluster.wait_idle()
    yield one_cluster
    assert one_cluster.watcher.twice() == []
    assert one_cluster.watcher.shared() == []


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Who is hit, other guests and nodes with another ``APVFIO_SEED``."""
    return random.Random(f"{os.environ.get('APVFIO_SEED', '1')} {request.node.name}")

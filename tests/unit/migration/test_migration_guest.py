# SPDX-License-Identifier: Apache-2.0
"""Which guest ``apvfio migrate`` is about, as libvirt on two hosts has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.migration.budget import Budget
from apvfio.migration.daemon import Daemon
from apvfio.migration.places import StrandedError
from apvfio.migration.source import identify
from libvirt_test_driver import URI, Driver, driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UUID = "00000001-1111-4111-8111-111111111111"


@pytest.fixture
def libvirtd() -> Iterator[Driver]:
    with driver() as made:
        made.define("db1", 1).create()
        yield made


@pytest.fixture
def empty(tmp_path: Path) -> str:
    """The URI of a host without guests."""
    path = tmp_path / "node.xml"
    path.write_text("<node><cpu><nodes>1</nodes></cpu></node>")
    return f"test://{path}"


def test_an_id_is_one_of_this_host(libvirtd: Driver, empty: str) -> None:
    """The destination's guest of that id is another one."""
    budget = Budget(None)
    number = str(libvirtd.connection.lookupByName("db1").ID())
    with Daemon(URI, budget) as full, Daemon(empty, budget) as bare:
        for word in ("db1", UUID, UUID.upper(), number):
            assert identify(full, bare, word) == ("db1", UUID)
        for word in ("db1", UUID, UUID.upper()):
            assert identify(bare, full, word) == ("db1", UUID)
        with pytest.raises(StrandedError, match="libvirt knows no guest"):
            identify(bare, full, number)

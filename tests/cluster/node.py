# SPDX-License-Identifier: Apache-2.0
"""The cluster of one node with a simulated host and a directory of guests, as a fixture."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.domain.xml_tree import etree
from apvfio.model.errors import Exit
from cluster.one_node import OneNode
from domain_xml import domain
from where_possible import where_possible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Node(OneNode):
    """The cluster, with a simulated host and a directory of guests."""

    @property
    def guests(self) -> Path:
        return self.work / "guests"

    @property
    def apvfio(self) -> Path:
        """apvfio on the simulated host."""
        return self.work / "apvfio"

    def cib(self) -> etree._Element:
        """The cluster's configuration and state."""
        return etree.fromstring(self.run("cibadmin", "--query", "--local").encode())

    def attributes(self) -> dict[str, str]:
        """What the CIB has of the node."""
        cib = self.cib()
        pairs = [*cib.iterfind("configuration/nodes/node/utilization/nvpair")]
        pairs += cib.iterfind("status/node_state/transient_attributes/instance_attributes/nvpair")
        return {pair.get("name") or "": pair.get("value") or "" for pair in pairs}

    def version(self) -> tuple[str | None, ...]:
        """What grows with each write to the CIB."""
        cib = self.cib()
        return tuple(cib.get(name) for name in ("admin_epoch", "epoch", "num_updates"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node"))
    made.guests.mkdir()
    (made.guests / "db1.xml").write_bytes(domain('<ap:any mode="ep11" domains="2"/>'))
    host = made.work / "host.json"
    assert main(["sim", "new", str(host)]) == Exit.OK
    made.apvfio.write_text(f'#!/bin/sh\nexec {sys.executable} -m apvfio --sim {host} "$@"\n')
    made.apvfio.chmod(0o755)
    with where_possible(made):
        made.run("crm_attribute", "--name", "stonith-enabled", "--update", "false")
        yield made

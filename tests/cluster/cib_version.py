# SPDX-License-Identifier: Apache-2.0
"""What grows with each write to a cluster's CIB."""

from __future__ import annotations

from typing import Protocol

from apvfio.domain.xml_tree import etree


class Runs(Protocol):
    """Where Pacemaker's commands can be run."""

    def run(self, *words: str) -> str:
        """Run a command; what it prints."""


def cib_version(cluster: Runs) -> tuple[str | None, ...]:
    """The version of the CIB."""
    cib = etree.fromstring(cluster.run("cibadmin", "--query", "--local").encode())
    return tuple(cib.get(name) for name in ("admin_epoch", "epoch", "num_updates"))

# SPDX-License-Identifier: Apache-2.0
"""Guests placed by Pacemaker's scheduler, and started by the hook on copies of the hosts.

A guest whose start the hook refuses is tried on its other hosts, as Pacemaker does; those that run stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.cluster.outlook import simulate
from apvfio.cluster.priorities import priorities
from apvfio.cluster.resource import Resource
from apvfio.domain.xml_tree import etree
from apvfio.engine.start import start_guest
from apvfio.model.errors import ApvfioError
from pacemaker_env import a_cib

if TYPE_CHECKING:
    from apvfio.model.request import Request
    from benchmarks.placement.clusters import Cluster
    from memory_host import Machine

STRATEGIES = ("utilization", "balanced", "priorities")
"""The two of Pacemaker's, and ``utilization`` with what ``cluster priorities`` prints."""
_ALWAYS, _NEVER = "INFINITY", "-INFINITY"


def granted(cluster: Cluster, strategy: str) -> tuple[int, int]:
    """Return how many guests run after the first placement, and how many in the end."""
    cib = _cib(cluster, strategy)
    constraints = cib.find("configuration/constraints")
    assert constraints is not None
    hosts = {name: machine.twin() for name, machine in cluster.hosts.items()}
    requests = {one.name: one.request for one in cluster.guests if one.request}
    running: set[str] = set()
    first = None
    refused = True
    while refused:
        refused = False
        for guest, node in simulate(cib).nodes.items():
            if not node or guest in running:
                continue
            if _starts(hosts[node], requests[guest]):
                running.add(guest)
                _locate(constraints, guest, node, _ALWAYS)
            else:
                refused = True
                _locate(constraints, guest, node, _NEVER)
        first = len(running) if first is None else first
    return first or 0, len(running)


def _cib(cluster: Cluster, strategy: str) -> etree._Element:
    guests = [Resource.of(one) for one in cluster.guests]
    nodes = {
        name: (offer.utilization, [one.guest.name for one in offer.guests if not one.error])
        for name, offer in cluster.offers().items()
    }
    options = {"placement-strategy": "balanced" if strategy == "balanced" else "utilization"}
    cib = a_cib(nodes, guests, {**_OPTIONS, **options})
    if strategy == "priorities":
        ranks = {guest: {"priority": str(rank)} for guest, rank in priorities(cib).items()}
        cib = a_cib(nodes, guests, {**_OPTIONS, **options}, ranks)
    return cib


_OPTIONS = {"stonith-enabled": "false", "no-quorum-policy": "ignore"}


def _locate(constraints: etree._Element, guest: str, node: str, score: str) -> None:
    place = {"id": f"{guest}-{node}-{score}", "rsc": guest, "node": node, "score": score}
    etree.SubElement(constraints, "rsc_location", place)


def _starts(machine: Machine, request: Request) -> bool:
    try:
        start_guest(machine, request)
    except ApvfioError:
        return False
    return True

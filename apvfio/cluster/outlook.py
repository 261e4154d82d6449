# SPDX-License-Identifier: Apache-2.0
"""What would happen to the cluster's guests if a node failed, computed by Pacemaker's scheduler."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

from apvfio.cluster import cib
from apvfio.cluster.configuration import guest_primitives, online_nodes
from apvfio.domain.xml_tree import etree

_DOWN = {"in_ccm": "false", "crmd": "offline", "join": "down", "expected": "down"}


class Placement(NamedTuple):
    """Which guest runs where."""

    nodes: dict[str, str]
    """By guest; '' for one that runs nowhere."""

    @property
    def stopped(self) -> list[str]:
        """The guests that run nowhere."""
        return sorted(guest for guest, node in self.nodes.items() if not node)


class Failure(NamedTuple):
    """What follows if one node fails."""

    node: str
    placement: Placement
    lost: list[str]
    """The guests that would run if the node had not failed."""
    moved: dict[str, str]
    """The guests that would run on another node than now, and on which."""

    def as_json(self) -> dict[str, object]:
        """What ``cluster outlook --json`` prints."""
        return {"node": self.node, "lost": self.lost, "moved": self.moved}


class Outlook(NamedTuple):
    """What follows for each node that is online."""

    now: Placement
    failures: tuple[Failure, ...]

    def as_json(self) -> dict[str, object]:
        """What ``cluster outlook --json`` prints."""
        placed = [{"guest": guest, "node": node or None} for guest, node in self.now.nodes.items()]
        return {"guests": placed, "failures": [failure.as_json() for failure in self.failures]}


def outlook(document: etree._Element) -> Outlook:
    """Return what follows for each node in the CIB ``document``; errors are those of crm_simulate."""
    now = simulate(document)
    return Outlook(now, tuple(_failure(document, node, now) for node in sorted(online_nodes(document))))


def simulate(document: etree._Element) -> Placement:
    """Return where Pacemaker would run the guests in the CIB ``document``."""
    text = cib.run(["crm_simulate", "--xml-pipe", "--run", "--output-as=xml"], etree.tostring(document))
    return placement(document, cib.parse_output(text, "crm_simulate"))


def placement(document: etree._Element, result: etree._Element) -> Placement:
    """Return where the guests run after the actions that crm_simulate has printed as ``result``."""
    nodes = dict.fromkeys((guest.get("id") or "" for guest in guest_primitives(document)), "")
    for resource in result.iterfind("cluster_status/resources//resource"):
        name, node = resource.get("id") or "", resource.find("node")
        if name in nodes and node is not None:
            nodes[name] = node.get("name") or ""
    for action in result.iterfind("actions/rsc_action"):
        name = action.get("resource") or ""
        if name in nodes:
            goal = action.get("dest") or action.get("node") or ""
            nodes[name] = "" if action.get("action") == "stop" else goal
    return Placement(nodes)


def without_node(document: etree._Element, node: str) -> etree._Element:
    """Return the CIB as it is when ``node`` has failed and is fenced: without any state of the node."""
    after = deepcopy(document)
    for state in after.iterfind("status/node_state"):
        if state.get("uname") == node:
            state.attrib.update(_DOWN)
            for child in list(state):
                state.remove(child)
    return after


def _failure(document: etree._Element, node: str, now: Placement) -> Failure:
    then = simulate(without_node(document, node))
    lost = [guest for guest in then.stopped if now.nodes[guest]]
    moved = {guest: to for guest, to in then.nodes.items() if to and to != now.nodes[guest]}
    return Failure(node, then, lost, moved)

# SPDX-License-Identifier: Apache-2.0
"""Pacemaker's scheduler for tests, and CIBs for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from apvfio.cluster.resource import Resource
from apvfio.domain.xml_tree import etree
from apvfio.mdev import programs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_VERSION = {
    "crm_feature_set": "3.16.1",
    "validate-with": "pacemaker-3.8",
    "epoch": "1",
    "num_updates": "0",
    "admin_epoch": "0",
}
_ONLINE = {"in_ccm": "true", "crmd": "online", "join": "member", "expected": "member"}
OPTIONS = {"stonith-enabled": "false", "placement-strategy": "utilization", "no-quorum-policy": "ignore"}


def require_program(name: str) -> None:
    """Skip the test without the program; in CI it fails."""
    if programs.find(name) is None:
        assert os.environ.get("CI") != "true", f"{name} is not installed"
        pytest.skip(f"{name} is not installed")


def a_cib(
    nodes: Mapping[str, tuple[Mapping[str, int], Iterable[str]]],
    guests: Iterable[Resource],
    options: Mapping[str, str] = OPTIONS,
    meta: Mapping[str, Mapping[str, str]] | None = None,
) -> etree._Element:
    """A CIB in which all ``nodes`` are online, each with its utilization and the guests that it can start."""
    cib = etree.Element("cib", _VERSION)
    configuration, status = etree.SubElement(cib, "configuration"), etree.SubElement(cib, "status")
    crm_config = etree.SubElement(configuration, "crm_config")
    _nvpairs(etree.SubElement(crm_config, "cluster_property_set", id="options"), options)
    members, resources, constraints = (
        etree.SubElement(configuration, tag) for tag in ("nodes", "resources", "constraints")
    )
    for number, (name, (capacity, can_start)) in enumerate(nodes.items(), 1):
        node = etree.SubElement(members, "node", id=str(number), uname=name)
        _nvpairs(etree.SubElement(node, "utilization", id=f"utilization-{name}"), capacity)
        state = etree.SubElement(status, "node_state", _ONLINE, id=str(number), uname=name)
        transient = etree.SubElement(state, "transient_attributes", id=str(number))
        attributes = etree.SubElement(transient, "instance_attributes", id=f"status-{name}")
        _nvpairs(attributes, {f"apvfio-{guest}": "1" for guest in can_start})
        etree.SubElement(etree.SubElement(state, "lrm", id=str(number)), "lrm_resources")
    for guest in guests:
        text = "".join(guest.xml())
        for element in etree.fromstring(f"<all>{text}</all>"):
            (resources if element.tag == "primitive" else constraints).append(element)
        found = resources[-1].find("meta_attributes")
        assert found is not None
        _nvpairs(found, (meta or {}).get(guest.name, {}))
    return cib


def _nvpairs(parent: etree._Element, values: Mapping[str, object]) -> None:
    for key, value in values.items():
        name = f"{parent.get('id')}-{key}"
        etree.SubElement(parent, "nvpair", id=name, name=key, value=str(value))

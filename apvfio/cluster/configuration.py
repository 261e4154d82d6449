# SPDX-License-Identifier: Apache-2.0
"""What a cluster's configuration (CIB) has about guests with AP queues, the publisher and fencing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.cluster.cib import Published, pairs, published
from apvfio.cluster.offer import eligibility_attribute
from apvfio.cluster.resource import AGENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apvfio.domain.xml_tree import etree

PUBLISHER = ("ocf", "apvfio", "Queues")
_FALSE = ("0", "false", "n", "no", "off")
"""As crm_str_to_boolean has it."""


class GuestResource(NamedTuple):
    """A guest as the cluster is configured to run it."""

    name: str
    config: str
    """The file with its XML."""
    has_rule: bool
    """Whether a location rule asks for the attribute that says which hosts could start it."""
    is_retried: bool
    """Whether a failure is forgotten after some time, so that the guest is started again."""
    utilization: Mapping[str, str]


class Configuration(NamedTuple):
    """A cluster's configuration, and what each node publishes."""

    nodes: tuple[str, ...]
    online: tuple[str, ...]
    has_fencing: bool
    """Whether nodes may be fenced at all."""
    fence_devices: tuple[str, ...]
    placement_strategy: str
    publisher: str
    """The resource that publishes what a node offers, '' without one."""
    is_cloned: bool
    """Whether it runs on all nodes."""
    guests: tuple[GuestResource, ...]
    published: Mapping[str, Published]
    """By node, of those that are online."""


def read_configuration(document: etree._Element) -> Configuration:
    """Return what the CIB ``document`` says."""
    options = dict(pairs([document], "configuration/crm_config/cluster_property_set/nvpair"))
    defaults = dict(pairs([document], "configuration/rsc_defaults/meta_attributes/nvpair"))
    rules = {
        (rule.get("rsc"), expression.get("attribute"))
        for rule in document.iterfind("configuration/constraints/rsc_location")
        for expression in rule.iter("expression")
    }
    guests = []
    for primitive in guest_primitives(document):
        name = primitive.get("id") or ""
        meta = {**defaults, **dict(pairs([primitive], "meta_attributes/nvpair"))}
        guests.append(
            GuestResource(
                name,
                dict(pairs([primitive], "instance_attributes/nvpair")).get("config", ""),
                has_rule=(name, eligibility_attribute(name)) in rules,
                is_retried=any(digit in "123456789" for digit in meta.get("failure-timeout", "")),
                utilization=dict(pairs([primitive], "utilization/nvpair")),
            )
        )
    online = tuple(sorted(online_nodes(document)))
    publishers = [one for one in _primitives(document) if _agent(one) == PUBLISHER]
    fence_devices = [one for one in _primitives(document) if one.get("class") == "stonith"]
    nodes = document.iterfind("configuration/nodes/node")
    return Configuration(
        nodes=tuple(sorted(node.get("uname") or "" for node in nodes)),
        online=online,
        has_fencing=options.get("stonith-enabled", "true").lower() not in _FALSE,
        fence_devices=tuple(one.get("id") or "" for one in fence_devices),
        placement_strategy=options.get("placement-strategy", "default"),
        publisher=(publishers[0].get("id") or "") if publishers else "",
        is_cloned=any(ancestor.tag == "clone" for one in publishers for ancestor in one.iterancestors()),
        guests=tuple(guests),
        published={node: published(document, node) for node in online},
    )


def online_nodes(document: etree._Element) -> Iterator[str]:
    """The nodes in the CIB that are members of the cluster."""
    for state in document.iterfind("status/node_state"):
        # Since Pacemaker 2.1.7 it is the time at which the node came online, 0 if it has not.
        if state.get("crmd", "offline") not in ("offline", "false", "0"):
            yield state.get("uname") or ""


def guest_primitives(document: etree._Element) -> Iterator[etree._Element]:
    """The guests with AP queues among the resources of the CIB."""
    return (one for one in _primitives(document) if _agent(one) == AGENT)


def _primitives(document: etree._Element) -> Iterator[etree._Element]:
    return document.iterfind("configuration/resources//primitive")


def _agent(primitive: etree._Element) -> tuple[str | None, ...]:
    return primitive.get("class"), primitive.get("provider"), primitive.get("type")

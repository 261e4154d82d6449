# SPDX-License-Identifier: Apache-2.0
"""The order in which Pacemaker places guests best: first the guests with the fewest suitable queues.

The scheduler places one guest after the other and never revises a choice. A guest for which many queues are
suitable is placed last, because it still finds some. Of guests with the same choice, the smaller one comes
first. The priorities depend on what the hosts publish and not on what guests hold. The exponent is the one
with which the most guests find a place in ``benchmarks/placement``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from apvfio.cluster.cib import pairs, published
from apvfio.cluster.classes import PREFIX
from apvfio.cluster.configuration import guest_primitives
from apvfio.cluster.offer import eligibility_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.cluster.cib import Published
    from apvfio.domain.xml_tree import etree

_EXPONENT = 1.25


def priorities(document: etree._Element) -> dict[str, int]:
    """Return the priority of each guest in the CIB ``document``, from 1 for those to be placed last."""
    names = [node.get("uname") or "" for node in document.iterfind("configuration/nodes/node")]
    nodes = [published(document, name) for name in names]
    weights = {
        name: _weight(name, _utilization(guest), nodes)
        for guest in guest_primitives(document)
        if (name := guest.get("id") or "")
    }
    ranks = {weight: rank for rank, weight in enumerate(sorted(set(weights.values()), reverse=True), 1)}
    return {guest: ranks[weight] for guest, weight in weights.items()}


def _weight(guest: str, needs: Mapping[str, int], nodes: list[Published]) -> float:
    """Return how much choice the guest has: how many such guests the cluster could hold, by their size."""
    able = [one.utilization for one in nodes if one.attributes.get(eligibility_attribute(guest)) == "1"]
    room = sum(min((_number(there.get(k)) // n for k, n in needs.items()), default=0) for there in able)
    size = float(max(needs.values(), default=0))
    return round(room * math.pow(size, _EXPONENT), 6)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _utilization(guest: etree._Element) -> dict[str, int]:
    """Return the guest's utilization in apvfio's attributes, without those of other programs."""
    found = ((name, _number(value)) for name, value in pairs([guest], "utilization/nvpair"))
    return {name: number for name, number in found if number and name.startswith(PREFIX)}

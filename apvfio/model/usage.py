# SPDX-License-Identifier: Apache-2.0
"""How the host uses its own queues, as far as a plan has to respect it."""

from __future__ import annotations

from apvfio.model.host import HOST_DRIVER
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn, Matrix


class Usage(NamedTuple):
    """What is known of a host's queues beyond the snapshot; as it stands, nothing."""

    usable: Mapping[Apqn, str] = {}
    """The host's queues that are online, and their mode: ``cca``, ``ep11`` or ``accel``."""
    working: frozenset[Apqn] = frozenset()
    """The queues with requests under way."""
    keys: Mapping[Apqn, str] = {}
    """The queues bound to a key of zkey's repository, and the key's name."""
    nodes: Mapping[Apqn, str] = {}
    """The queues open to a custom zcrypt device node, and the node's name."""
    default_domain: frozenset[Apqn] = frozenset()
    """All queues that the host's drivers have of its default domain, if a plan concerns one of them."""


def concerned(matrix: Matrix, host: Host) -> list[Apqn]:
    """The host's queues that freeing ``matrix`` could take, whichever way is chosen."""
    return [
        queue
        for queue, driver in host.drivers.items()
        if driver == HOST_DRIVER and (queue.adapter in matrix.adapters or queue.domain in matrix.domains)
    ]

# SPDX-License-Identifier: Apache-2.0
"""Whether a host has what a guest requests; with over-provisioning, whether it could have it."""

from __future__ import annotations

from apvfio.model.errors import HostError
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Matrix
from apvfio.model.text import some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.model.host import Host
    from apvfio.model.matrix import Apqn
    from apvfio.model.request import Request


def absent_queues(matrix: Matrix, host: Host) -> list[Apqn]:
    """The queues of ``matrix`` that ``host`` does not have."""
    return [queue for queue in matrix.queues() if queue not in host.drivers]


def absent_control_domains(matrix: Matrix, host: Host) -> IdSet:
    """The control domains of ``matrix`` that ``host`` does not control, as far as it says which it does."""
    there = host.control_domains
    return NO_IDS if there is None else matrix.control_domains - there


def require_there(request: Request, host: Host, *, over_provisioning: bool) -> None:
    """HostError unless ``host`` has all adapters and domains, or may lack them (``over_provisioning``).

    The same holds for control domains: the kernel accepts them all, and gives the guest those that the host
    controls (vops:vfio_ap_mdev_filter_cdoms).

    A single missing queue of existing adapters and domains is refused in any case: the kernel would give the
    guest no queue of its adapter (vops:vfio_ap_mdev_filter_matrix).
    """
    matrix, source = request.matrix, request.source
    if over_provisioning:
        _require_within("adapter", matrix.adapters, host.max_adapter, source)
        _require_within("domain", matrix.domains, host.max_domain, source)
    _require_within("control domain", matrix.control_domains, host.max_domain, source)
    if host.control_domains is not None and not over_provisioning:
        _require_ids("control domain", matrix.control_domains, host.control_domains, source)
    if not absent_queues(matrix, host):
        return
    if not over_provisioning:
        _require_ids("adapter", matrix.adapters, host.adapters, source)
        _require_ids("domain", matrix.domains, host.domains, source)
    present = Matrix(host.adapters & matrix.adapters, host.domains & matrix.domains)
    holes = absent_queues(present, host)
    if holes:
        raise HostError(
            f"this host has no queue {some_queues(holes)}, and without it the guest would get no queue "
            f"of its adapter.",
            queues=holes,
            remedy="See 'apvfio queues'.",
        )


def require_all_there(matrix: Matrix, host: Host) -> None:
    """HostError if a queue is missing: where queues are moved one by one each must be there."""
    absent = absent_queues(matrix, host)
    if absent:
        raise HostError(
            f"this host has no queue {some_queues(absent)}, and by driver_override a guest can get only "
            "queues "
            "that the host has.",
            queues=absent,
            remedy="Ask for queues that are there, or change to the masks with 'apvfio mechanism masks'.",
        )


def _require_ids(what: str, asked: IdSet, there: IdSet, source: str) -> None:
    missing = asked - there
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise HostError(
            f"this host has no {what}{plural} {_named(missing)}; it has {there or 'none'}.",
            remedy=f"Correct the {what}s of {source}, or assign them to this partition.",
        )


def _require_within(what: str, asked: IdSet, largest: int, source: str) -> None:
    beyond = asked - IdSet(range(largest + 1))
    if beyond:
        raise HostError(
            f"this host can have no {what} {_named(beyond)}: the largest possible is {largest}.",
            remedy=f"Correct the {what}s of {source}.",
        )


def _named(ids: IdSet) -> str:
    return ", ".join(f"{i} (0x{i:x})" for i in ids)

# SPDX-License-Identifier: Apache-2.0
"""Guests and their requests in ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.matrix import Matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.libvirt.guest_status import GuestStatus
    from apvfio.model.request import Request
    from apvfio.plan.guest_pairs import Pair


def request_json(request: Request | None, guest: str = "") -> dict[str, object]:
    """Return a guest's request as ``--json`` prints it.

    With None, ``guest`` has no request, or an invalid one. The queues for criteria are chosen at each start.
    """
    criteria = request.criteria if request else None
    lists: dict[str, str | None] = dict.fromkeys(Matrix._fields)
    if request and criteria:
        lists["control_domains"] = criteria.control
    elif request:
        lists |= request.matrix.lists()
    return {
        "guest": request.guest if request else guest,
        "uuid": request.guest_uuid if request else None,
        "secure_execution": request.secure if request else None,
        "mdev": request.mdev if request else None,
        **lists,
        "criteria": criteria.as_json() if criteria else None,
    }


def guest_json(one: GuestStatus, pairs: Sequence[Pair]) -> dict[str, object]:
    """Return a guest as ``guest list --json`` prints it."""
    rivals = [
        pair.second if pair.first == one.name else pair.first
        for pair in pairs
        if one.name in (pair.first, pair.second)
    ]
    return {
        **request_json(one.request, one.name),
        "state": one.state,
        "can_start": one.can_start,
        "error": one.error and one.error.as_json(),
        "held": [str(queue) for queue in one.lease.matrix.queues()] if one.lease else [],
        "faults": list(one.faults),
        "now": one.now,
        "conflicts": rivals,
    }

# SPDX-License-Identifier: Apache-2.0
"""The plan for all guests, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.errors import printable
from apvfio.model.host import OVERRIDES
from apvfio.model.text import count_queues, some_queues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.plan.all_guests import AllGuests


def all_guests_text(found: AllGuests) -> Iterator[str]:
    """The plan in lines for a person."""
    for error in found.errors:
        yield f"cannot start: {error}"
    if not found.guests:
        yield "no guest asks for queues that this host could give"
        return
    ways = found.freed_by_guest
    for request in found.guests:
        way = ways.get(request.guest_uuid)
        how = f'; free-by="{way}"' if way else ""
        yield f"{printable(request.guest)}: {request.matrix}{how}"
    yield ""
    yield from _who_with_whom(found)
    yield from _cost(found)
    yield from (f"warning {warning}" for warning in found.warnings)


def _who_with_whom(found: AllGuests) -> Iterator[str]:
    if not found.conflicts:
        yield "all of them can run together"
    for one, other, queues in found.conflicts:
        what = some_queues(queues) if queues else "the same mediated device"
        yield f"{printable(one)} and {printable(other)} cannot run together: both want {what}"


def _cost(found: AllGuests) -> Iterator[str]:
    if found.joint_plan is None:
        yield "no choice of ways leaves the host the queues that the policy reserves for it"
        return
    if found.mechanism == OVERRIDES:
        yield "the host loses no other queue: they are moved one by one, with driver_override"
        return
    lost, least = found.joint_plan.collateral, found.joint_plan.least
    if not lost:
        yield "the host loses no queue nobody asked for"
    else:
        proven = "no choice of ways loses fewer"
        if least < len(lost):
            proven = f"too many guests to look at all choices, but none loses fewer than {least}"
        yield f"the host loses {count_queues(len(lost))} nobody asked for: {some_queues(lost)}; {proven}"
    if found.prefer:
        yield f'every order of starts ends there with prefer = "{found.prefer}" in the policy'
    else:
        yield "every order of starts ends there with the free-by shown in each guest's annotation"

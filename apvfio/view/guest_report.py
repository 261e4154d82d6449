# SPDX-License-Identifier: Apache-2.0
"""The output of ``apvfio status GUEST``, as text and as the document of ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apvfio.libvirt.guest_status import RUNNING
from apvfio.model.criteria import count
from apvfio.model.errors import printable
from apvfio.model.host import OVERRIDES
from apvfio.model.matrix import Matrix
from apvfio.model.text import some_queues
from apvfio.plan.start_plan import ALREADY_FREE
from apvfio.view.clock import local_of_boot_time
from apvfio.view.columns import bare_table, fold
from apvfio.view.events import event_json, event_line
from apvfio.view.guests_json import guest_json
from apvfio.view.paint import RED, YELLOW, painted
from apvfio.view.status_report import queue_json, running_lease_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.libvirt.one_guest import OneGuest
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Apqn
    from apvfio.plan.guest_pairs import Pair
    from apvfio.plan.start_plan import Plan
    from apvfio.view.matrix_text import Look

_LABEL = 17
_LONGEST = 1000
_SHOWN = 32
_FEW = 4


class Words(Protocol):
    """What writes commands to paste for the host that is looked at."""

    def apvfio(self, *words: str) -> str:
        """A command of ours."""


def why_apart(pair: Pair) -> str:
    """Return why the two guests cannot run together."""
    return f"both request {some_queues(pair.queues, _FEW)}" if pair.queues else pair.why


def one_guest_json(one: OneGuest) -> dict[str, object]:
    """Return the document of ``status GUEST --json``."""
    found = one.found
    return {
        **guest_json(one.status, one.pairs),
        "uuid": one.uuid,
        "lease": running_lease_json(found, one.lease) if one.lease else None,
        "device": {
            "mdev": one.mdev,
            **found.host.mdevs.get(one.mdev, Matrix()).lists(),
            "exists": one.mdev in found.host.mdevs,
            "pid": one.opener.pid if one.opener else None,
        }
        if one.mdev
        else None,
        "queues": [queue_json(found, queue) for queue in _queues(one)],
        "pending_returns": [pending.as_json() for pending in one.pending],
        "plan": one.plan and one.plan.as_json(),
        "plan_error": one.plan_error and one.plan_error.as_json(),
        "events": [event_json(event) for event in one.events],
        "libvirt_error": one.libvirt_error and one.libvirt_error.as_json(),
    }


def one_guest_lines(one: OneGuest, words: Words, look: Look) -> Iterator[str]:
    """Return the lines that ``status GUEST`` prints."""
    width = look.width if look.folds else None
    for label, text in _facts(one):
        color = _color(one, label)
        for line in fold(f"{label:<{_LABEL}}{printable(text, _LONGEST)}", width, _LABEL):
            yield painted(line, color, on=look.color and bool(color))
    rows = list(_rows(one))
    if rows:
        yield ""
        yield from bare_table(("QUEUE", "HELD", "REQUESTED", "OWNER", "DRIVER", "STATE"), rows[:_SHOWN])
        if len(rows) > _SHOWN:
            yield f"and {len(rows) - _SHOWN} more: '{words.apvfio('queues')}' shows all"
    if one.events:
        yield ""
        yield "last events:"
        for event in one.events:
            yield from fold(f"  {printable(event_line(event), _LONGEST)}", width, 4)
        # A name may look like an option.
        name = one.uuid if one.status.name.startswith("-") else one.status.name
        yield f"'{words.apvfio('log', '--guest', name)}' shows all events of this guest"


def _color(one: OneGuest, label: str) -> str:
    """The color of a line: that of a problem, of a warning, or '' for neither."""
    if (label == "now" and one.status.faults) or (label == "next start" and one.plan_error):
        return RED
    return YELLOW if label in ("warning", "libvirt") else ""


def _facts(one: OneGuest) -> Iterator[tuple[str, str]]:
    status = one.status
    yield "guest", status.name
    yield "uuid", one.uuid
    yield "state", status.state
    if one.libvirt_error:
        yield "libvirt", one.libvirt_error.clause
    if status.state == RUNNING:
        yield "now", status.now
    source = f" ({status.request.source.removeprefix('its ')})" if status.request else ""
    yield "request", "not known" if one.libvirt_error else f"{status.asks}{source}"
    if one.mdev:
        yield "mediated device", _device(one, one.mdev)
    yield "holds", _lease(one.lease) if one.lease else "no queues"
    yield from (("pending return", f"{pending}, {pending.why}") for pending in one.pending)
    for pair in one.pairs:
        other = pair.second if pair.first == status.name else pair.first
        yield "cannot run with", f"{other}: {why_apart(pair)}"
    yield "next start", _next_start(one)
    yield from (("warning", text) for text in (one.plan.warnings if one.plan else ()))


def _device(one: OneGuest, mdev: str) -> str:
    matrix = one.found.host.mdevs.get(mdev)
    opened = f", open in process {one.opener.pid}" if one.opener else ""
    return f"{mdev}: {'does not exist' if matrix is None else matrix}{opened}"


def _lease(lease: Lease) -> str:
    since = local_of_boot_time(lease.since)
    return f"{lease.matrix}; freed by {lease.freed_by}, {lease.state}{f' since {since}' if since else ''}"


def _next_start(one: OneGuest) -> str:
    if one.plan_error:
        return f"fails: {one.plan_error}"
    if one.plan is None:
        return "not known" if one.libvirt_error else "without AP queues"
    when = " again after a stop" if one.status.state == RUNNING else ""
    return f"can start{when}; {_way(one.plan)}"


def _way(plan: Plan) -> str:
    if plan.freed_by == ALREADY_FREE:
        return "its queues are free already"
    if plan.mechanism == OVERRIDES:
        return "its queues are freed by driver_override, without collateral queues"
    lost = some_queues(plan.chosen.collateral) or "none"
    bits = count(plan.chosen.clear.size, "mask bit")
    return f"its queues are freed by {plan.chosen.name}: {bits}; collateral queues: {lost}"


def _queues(one: OneGuest) -> list[Apqn]:
    """The queues that it holds or requests and that the host has."""
    return sorted({*one.held, *one.requested} & one.found.owners.keys())


def _rows(one: OneGuest) -> Iterator[tuple[str, ...]]:
    held, requested, found = set(one.held), set(one.requested), one.found
    for queue in sorted(held | requested):
        there = queue in found.owners
        yield (
            str(queue),
            "yes" if queue in held else "no",
            "yes" if queue in requested else "no",
            printable(str(found.owners[queue])) if there else "not on this host",
            printable(found.host.drivers[queue] or "none") if there else "",
            found.seen.states.get(queue) or "",
        )

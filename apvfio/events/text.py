# SPDX-License-Identifier: Apache-2.0
"""Events in words."""

from __future__ import annotations

from apvfio.events.event import (
    CHANGED,
    CLAIMED,
    COUNTED,
    HELD,
    IGNORED,
    MASKS,
    MECHANISM,
    PENDING,
    PLANNED,
    REFUSED,
    STARTED,
    STOPPED,
)
from apvfio.model.errors import printable
from apvfio.model.ledger import BY_OVERRIDES
from apvfio.model.text import count_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.events.event import Event

_LONGEST = 1000
_WHOLE = 100_000


def sentence(event: Event) -> str:
    """What happened, in one line fit for a terminal."""
    late = ", found out afterwards" if event.late else ""
    warned = "".join(f"; warning: {printable(warning, _LONGEST)}" for warning in event.warnings)
    # All of it is looked through once more: who has edited the trail may have done it anywhere.
    return printable(f"{_SAYS[event.kind](event)}{warned}{late}", _WHOLE)


def _who(event: Event) -> str:
    return f"guest {printable(event.guest)}"


def _queues(event: Event) -> str:
    matrix = event.matrix
    number = len(matrix.adapters) * len(matrix.domains)
    return f"{count_queues(number)}: adapters {matrix.adapters}, domains {matrix.domains}"


def _way(event: Event) -> str:
    if not event.freed_by:
        return ""
    return ", by driver_override" if event.freed_by == BY_OVERRIDES else f", freed by its {event.freed_by}"


def _planned(event: Event) -> str:
    why = f" ({printable(event.text, _LONGEST)})" if event.text else ""
    return f"{_who(event)} is to get {_queues(event)}{_way(event)}{why}"


def _owed(event: Event) -> str:
    return f"owed to the host: {event.text}" if event.text else "all that was owed to the host is paid"


def _counted(event: Event) -> str:
    return "until here: " + ", ".join(f"{n} {printable(kind)}" for kind, n in sorted(event.counts.items()))


_SAYS: dict[str, Callable[[Event], str]] = {
    PLANNED: _planned,
    STARTED: lambda event: f"{_who(event)} has {_queues(event)}{_way(event)}",
    CHANGED: lambda event: f"{_who(event)}, which runs, now has {_queues(event)}{_way(event)}",
    COUNTED: _counted,
    HELD: lambda event: f"{_who(event)} still has {_queues(event)}",
    STOPPED: lambda event: f"{_who(event)} no longer has {_queues(event)}",
    REFUSED: lambda event: f"{_who(event)} was not started: {printable(event.text, _LONGEST)}",
    IGNORED: lambda event: (
        f"{_who(event)} gets no queues: its mediated device {event.mdev} is not there, and it has neither an "
        "annotation nor mdevctl's definition of that device"
    ),
    PENDING: _owed,
    CLAIMED: lambda event: f"{_queues(event)} freed for the mediated device {event.mdev}{_way(event)}",
    MASKS: lambda event: f"masks changed by hand: {printable(event.text, _LONGEST)}",
    MECHANISM: lambda event: (
        f"queues change hands by {event.text}" if event.text else "the mode is the policy's again"
    ),
}

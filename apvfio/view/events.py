# SPDX-License-Identifier: Apache-2.0
"""An event of the audit log as a line of text and in ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.events.journal import sentence
from apvfio.view.clock import local, utc

if TYPE_CHECKING:
    from apvfio.events.event import Event


def event_line(event: Event) -> str:
    """Return the event's time and sentence."""
    return f"{local(event.time)}  {sentence(event)}"


def event_json(event: Event) -> dict[str, object]:
    """Return the event as ``--json`` prints it."""
    item = {name: value for name, value in event._asdict().items() if name not in ("matrix", "holds")}
    return {**item, "time": utc(event.time), **event.matrix.lists(), "message": sentence(event)}

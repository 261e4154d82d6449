# SPDX-License-Identifier: Apache-2.0
"""Who had a queue, from when to when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.events.event import COUNTED, GAINS, HELD, STOPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.events.event import Event
    from apvfio.model.matrix import Apqn


class Span(NamedTuple):
    """A guest had the queue; times in seconds since 1970."""

    guest: str
    uuid: str
    mdev: str
    boot: str
    begin: float
    begun_before: bool = False
    """Whether the audit log begins later than the span."""
    end: float | None = None
    """None if it has it still."""
    ended_before: bool = False
    """Whether the end was found out later, such as that of the boot."""


def spans(log: Iterable[Event], queue: Apqn) -> list[Span]:
    """The spans of ``queue``, by their beginning.

    A file of the audit log begins with all that guests hold: a guest that is not among them has lost its
    queues.
    """
    found: list[Span] = []
    there: dict[str, int] = {}
    in_doubt: dict[str, float] = {}
    for event in log:
        if event.kind == COUNTED:
            in_doubt = dict.fromkeys(there, event.time)
        elif event.kind == HELD:
            in_doubt.pop(event.mdev, None)
        elif in_doubt:
            _end(found, there, in_doubt)
        if event.kind not in GAINS and event.kind != STOPPED:
            continue
        index = there.get(event.mdev)
        has = event.kind != STOPPED and event.matrix.holds(queue)
        same = index is not None and (found[index].uuid, found[index].boot) == (event.uuid, event.boot)
        if index is not None and not (has and same):
            # A boot ends every lease, but no event records that.
            late = event.late or found[index].boot != event.boot
            found[index] = found[index]._replace(end=event.time, ended_before=late)
            del there[event.mdev]
        if has and not same:
            there[event.mdev] = len(found)
            early = event.kind == HELD or event.late
            found.append(Span(event.guest, event.uuid, event.mdev, event.boot, event.time, early))
    _end(found, there, in_doubt)
    return found


def _end(found: list[Span], there: dict[str, int], in_doubt: dict[str, float]) -> None:
    """End the spans of these devices, at the time when it was found out."""
    for mdev, time in in_doubt.items():
        index = there.pop(mdev)
        found[index] = found[index]._replace(end=time, ended_before=True)
    in_doubt.clear()

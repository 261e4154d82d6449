# SPDX-License-Identifier: Apache-2.0
"""One thing that happened, as a value and as a line of the trail."""

from __future__ import annotations

import json

from apvfio.model.ids import NO_IDS, format_list, parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.model.ids import IdSet

VERSION = 1
_END_OF_TIME = 1 << 37
"""Seconds; no date can be made of more."""

PLANNED = "planned"
"""A start was decided; whether the guest gets anything is told by what follows."""
STARTED = "started"
"""A guest holds queues from now on."""
CHANGED = "changed"
"""A running guest holds other queues from now on."""
STOPPED = "stopped"
"""A guest holds its queues no longer."""
REFUSED = "refused"
"""A guest did not start."""
IGNORED = "ignored"
"""A guest that starts has a vfio-ap device that is not there, and requests no queues: apvfio did nothing."""
HELD = "held"
"""At the beginning of a file: what a guest held when the file before it was closed."""
COUNTED = "counted"
"""At the beginning of a file: how many events of each kind came before it."""
PENDING = "pending"
"""The pending returns that no guest needs have changed; an empty text if there are none."""
CLAIMED = "claimed"
"""Queues were freed for a device that mdevctl makes."""
MASKS = "masks"
"""An administrator changed the masks."""
MECHANISM = "mechanism"
"""The mechanism was chosen by which queues change hands."""

GAINS = frozenset((STARTED, CHANGED, HELD))
KINDS = GAINS | {COUNTED, PLANNED, STOPPED, REFUSED, IGNORED, PENDING, CLAIMED, MASKS, MECHANISM}

_TEXTS = ("guest", "uuid", "mdev", "freed_by", "text")


class Event(NamedTuple):
    """What happened, to whom, to which queues. Names of guests and texts are untrusted."""

    time: float
    """Seconds since 1970."""
    kind: str
    boot: str = ""
    """The boot's id: no queue stays with a guest beyond it."""
    guest: str = ""
    uuid: str = ""
    mdev: str = ""
    matrix: Matrix = Matrix()
    freed_by: str = ""
    text: str = ""
    """A sentence or a clause, for people."""
    collateral: tuple[str, ...] = ()
    """Queues that the host loses besides."""
    warnings: tuple[str, ...] = ()
    late: bool = False
    """Whether it was found out afterwards: ``time`` is when."""
    counts: Mapping[str, int] = {}
    """For `COUNTED`: the kinds and how many of each."""
    holds: int = 0
    """A check sum of who holds what after it, as `apvfio.events.changes.holding` makes it."""


def to_line(event: Event) -> str:
    """The event as a line of JSON; what is empty is left out."""
    item: dict[str, object] = {
        "v": VERSION,
        "time": round(event.time, 3),
        "kind": event.kind,
        "boot": event.boot,
    }
    item |= {name: text for name in _TEXTS if (text := getattr(event, name))}
    if not event.matrix.empty:
        item |= matrix_json(event.matrix)
    item |= {name: list(texts) for name in ("collateral", "warnings") if (texts := getattr(event, name))}
    if event.late:
        item["late"] = True
    if event.counts:
        item["counts"] = dict(event.counts)
    return json.dumps({**item, "holds": event.holds}) + "\n"


def from_line(line: str) -> Event:
    """The event of a line; ValueError if it is none, or one of a newer version."""
    item = json.loads(line)
    if not isinstance(item, dict) or item.get("v") != VERSION or _text(item, "kind") not in KINDS:
        raise ValueError("it is no event of this version")
    when, holds = item.get("time"), item.get("holds", 0)
    if not isinstance(when, int | float) or not isinstance(holds, int) or not 0 <= when < _END_OF_TIME:
        raise ValueError("it has no time")
    return Event(
        time=float(when),
        kind=item["kind"],
        boot=_text(item, "boot"),
        guest=_text(item, "guest"),
        uuid=_text(item, "uuid"),
        mdev=_text(item, "mdev"),
        matrix=Matrix(*(_ids(_text(item, name)) for name in Matrix._fields)),
        freed_by=_text(item, "freed_by"),
        text=_text(item, "text"),
        collateral=_texts(item, "collateral"),
        warnings=_texts(item, "warnings"),
        late=item.get("late") is True,
        counts=_counts(item.get("counts", {})),
        holds=holds,
    )


def matrix_json(matrix: Matrix) -> dict[str, str]:
    """The lists of a matrix, in chzdev's notation."""
    return {name: format_list(ids) for name, ids in zip(Matrix._fields, matrix, strict=True) if ids}


def _ids(text: str) -> IdSet:
    return parse_list(text) if text else NO_IDS


def _text(item: Mapping[str, object], name: str) -> str:
    text = item.get(name, "")
    if not isinstance(text, str):
        raise ValueError(f"its {name} is no text")
    return text


def _texts(item: Mapping[str, object], name: str) -> tuple[str, ...]:
    texts = item.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"its {name} are no texts")
    return tuple(texts)


def _counts(item: object) -> dict[str, int]:
    if not isinstance(item, dict) or not all(isinstance(n, int) and n >= 0 for n in item.values()):
        raise ValueError("its counts are none")
    return item

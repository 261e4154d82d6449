# SPDX-License-Identifier: Apache-2.0
"""One event, as a value and as a line of the audit log."""

from __future__ import annotations

from apvfio.model import json_text
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
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
"""A start was decided; the events that follow say whether the guest gets anything."""
STARTED = "started"
CHANGED = "changed"
STOPPED = "stopped"
REFUSED = "refused"
IGNORED = "ignored"
"""A guest that starts has a vfio-ap device that is not there, and requests no queues: apvfio did nothing."""
HELD = "held"
"""At the beginning of a file: what a guest held when the file before it was closed."""
COUNTED = "counted"
"""At the beginning of a file: how many events of each kind came before it."""
PENDING = "pending"
"""The pending returns that no guest needs have changed; an empty text if there are none."""
CLAIMED = "claimed"
MASKS = "masks"
MECHANISM = "mechanism"
"""An administrator chose the mechanism."""

NOTICE, WARNING, INFO = 5, 4, 6
"""Priorities of the journal."""


class Kind(NamedTuple):
    """What there is to know of the events of one kind."""

    sentence: str
    """What happened; `apvfio.events.journal` fills in the fields."""
    message_id: str = ""
    """Of its entry in the journal, explained in hooks/apvfio.catalog; '' if it has no entry."""
    priority: int = INFO
    gains: bool = False
    """Whether a guest has the event's queues from then on."""
    without_text: str = ""
    """The sentence if the event has no text."""


KINDS = {
    COUNTED: Kind("until here: {counts}"),
    HELD: Kind("{guest} still has {queues}", "6058d3438c6748598f312fa8e922966e", gains=True),
    PLANNED: Kind("{guest}: start planned with {queues}{by}{why}", "1cc6f53545d14bd69e6ec04fbe230e69"),
    STARTED: Kind("{guest} has {queues}{by}", "09ba222812584ee887c5f8c750137b78", gains=True),
    CHANGED: Kind("running {guest} now has {queues}{by}", "0969b4ce024741788ad53c25c200f495", gains=True),
    STOPPED: Kind("{guest} no longer has {queues}", "d0ba0418969b48c2864206dde97ed75e"),
    REFUSED: Kind("{guest} was not started: {text}", "06e8c546e8a244668e96445548b37e47", WARNING),
    IGNORED: Kind(
        "{guest} gets no queues: its mediated device {mdev} does not exist, and it has neither an annotation "
        "nor mdevctl's definition of that device",
        "992fd7b703804d76862fc9a4b7a2a75d",
        WARNING,
    ),
    PENDING: Kind(
        "pending returns: {text}",
        "44308ae0d03c48c497e5737857e4ef67",
        NOTICE,
        without_text="all pending returns are done",
    ),
    CLAIMED: Kind("{queues} freed for the mediated device {mdev}{by}", "53a25543c1c547f38c21649ba265b68b"),
    MASKS: Kind("masks changed by hand: {text}", "26aa9df8e7804b51bc7a097d51571997"),
    MECHANISM: Kind(
        "mechanism: {text}",
        "13407eead52741db8b173a2b487191e6",
        without_text="the mechanism is that of the policy again",
    ),
}
GAINS = frozenset(name for name, kind in KINDS.items() if kind.gains)

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
    """Collateral queues."""
    warnings: tuple[str, ...] = ()
    late: bool = False
    """Whether it was found out afterwards: ``time`` is when."""
    counts: Mapping[str, int] = {}
    """For `COUNTED`: the kinds and how many of each."""
    holds: int = 0
    """A checksum of who holds which queues after the event (`apvfio.events.ledger_changes.holding`)."""


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
        item |= {name: text for name, text in event.matrix.lists().items() if text}
    item |= {name: list(texts) for name in ("collateral", "warnings") if (texts := getattr(event, name))}
    if event.late:
        item["late"] = True
    if event.counts:
        item["counts"] = dict(event.counts)
    return json_text.dumps({**item, "holds": event.holds}) + "\n"


def from_line(line: str) -> Event:
    """The event of a line; ValueError if it is none, or one of a newer version."""
    item = json_text.loads(line)
    if not isinstance(item, dict) or item.get("v") != VERSION or _text(item, "kind") not in KINDS:
        raise ValueError("it is not an event of this version")
    when, holds = item.get("time"), item.get("holds", 0)
    if not isinstance(when, (int, float)) or not isinstance(holds, int) or not 0 <= when < _END_OF_TIME:
        raise ValueError("it has no time")
    return Event(
        time=float(when),
        kind=item["kind"],
        matrix=Matrix(*(_ids(_text(item, name)) for name in Matrix._fields)),
        collateral=_texts(item, "collateral"),
        warnings=_texts(item, "warnings"),
        late=item.get("late") is True,
        counts=_counts(item.get("counts", {})),
        holds=holds,
        **{name: _text(item, name) for name in ("boot", *_TEXTS)},
    )


def _ids(text: str) -> IdSet:
    return parse_list(text) if text else NO_IDS


def _text(item: Mapping[str, object], name: str) -> str:
    text = item.get(name, "")
    if not isinstance(text, str):
        raise ValueError(f"its {name} is not text")
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

# SPDX-License-Identifier: Apache-2.0
"""The file of the drains, /etc/apvfio/drains.json.

A drain is an administrator's decision, like the policy, and stays until it is restored: a card may be
replaced while the host is off, and guests with autostart must not get its queues at the next boot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apvfio.model import json_text
from apvfio.model.drain import Drain, MovedGuest
from apvfio.model.errors import ApvfioError, RequestError, printable
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Area, Matrix
from apvfio.model.policy import DRAINS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.kernel.seam import Files
    from apvfio.model.ids import IdSet

_VERSION = 1
_MODE = 0o644


class DamagedDrainsError(ApvfioError):
    """The file of the drains cannot be understood."""


def load_drains(files: Files) -> list[Drain]:
    """Return the drains, the oldest first; ApvfioError if the file cannot be understood."""
    text = files.read(DRAINS)
    return [] if text is None else parse_drains(text)


def save_drains(files: Files, drains: Iterable[Drain]) -> None:
    """Write the drains atomically; without any, the file is removed."""
    documents = [_json(drain) for drain in drains]
    if documents:
        document = {"version": _VERSION, "drains": documents}
        files.write(DRAINS, json_text.dumps(document, indent=1) + "\n", _MODE)
    else:
        files.remove(DRAINS)


def parse_drains(text: str) -> list[Drain]:
    """Return the drains in the file's ``text``; ApvfioError if it cannot be understood."""
    try:
        document = json_text.loads(text)
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise ValueError("it has no version that this apvfio knows")
        return [_drain_from(item) for item in _get(document, "drains", list)]
    except (ValueError, RecursionError, RequestError) as error:
        raise DamagedDrainsError(
            f"/{DRAINS} is damaged: {printable(str(error), 200)}.",
            remedy="Nothing was changed. Move the file away to end all drains, and drain again.",
        ) from None


def drained_area(drains: Iterable[Drain]) -> Area:
    """Return the area whose queues no guest gets."""
    area = Area()
    for drain in drains:
        area = area if drain.restoring else area.union(drain.area)
    return area


def _json(drain: Drain) -> dict[str, object]:
    return {
        **drain.area.as_json(),
        "since": drain.since,
        "moved": [
            {
                "guest": moved.guest,
                "uuid": moved.uuid,
                **moved.before.lists(),
                "boot_id": moved.boot_id,
                "since": moved.since,
            }
            for moved in drain.moved
        ],
        "stopped": list(drain.stopped),
        "overrides": {str(queue): driver for queue, driver in sorted(drain.overrides.items())},
        "restoring": drain.restoring,
    }


def _drain_from(item: Any) -> Drain:
    area = Area(_ids(item, "adapters"), _ids(item, "domains"), _get(item, "everything", bool))
    overrides = _get(item, "overrides", dict)
    return Drain(
        area,
        _get(item, "since", int),
        moved=tuple(_moved_from(moved) for moved in _get(item, "moved", list)),
        stopped=tuple(_text(name) for name in _get(item, "stopped", list)),
        overrides={_queue(name): _text(driver) for name, driver in overrides.items()},
        restoring=_get(item, "restoring", bool),
    )


def _moved_from(item: Any) -> MovedGuest:
    return MovedGuest(
        guest=_get(item, "guest", str),
        uuid=_get(item, "uuid", str),
        before=Matrix(*(_ids(item, key) for key in Matrix._fields)),
        boot_id=_get(item, "boot_id", str),
        since=_get(item, "since", int),
    )


def _ids(item: Any, key: str) -> IdSet:
    text = _get(item, key, str)
    return parse_list(text, key) if text else NO_IDS


def _queue(name: str) -> Apqn:
    queue = Apqn.parse(name)
    if queue is None:
        raise ValueError(f"{name[:40]!r} is not a queue")
    return queue


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} is not text")
    return value


def _get(item: Any, key: str, kind: type) -> Any:
    value = item.get(key) if isinstance(item, dict) else None
    if type(value) is not kind:
        raise ValueError(f"{key} is {str(value)[:40]!r}")
    return value

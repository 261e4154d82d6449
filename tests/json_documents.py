# SPDX-License-Identifier: Apache-2.0
"""JSON documents: the way to everything in them, and what they are with one thing replaced."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Way = tuple[Any, ...]
"""The keys and indexes that lead from the whole to a part, nothing for the whole."""


def places(item: Any, way: Way = ()) -> Iterator[Way]:
    """The way to everything in a document."""
    yield way
    if isinstance(item, (dict, list)):
        for key in item if isinstance(item, dict) else range(len(item)):
            yield from places(item[key], (*way, key))


def alike(way: Way) -> Way:
    """The same for the parts of all queues, cards and devices."""
    return tuple("#" if isinstance(step, str) and step[:1].isdigit() else step for step in way)


def kinds_of_places(item: Any) -> list[Way]:
    """Of the places that are alike, the last."""
    return list({alike(way): way for way in places(item)}.values())


def changed(document: Any, way: Way, value: Any) -> Any:
    """The document with one thing replaced."""
    if not way:
        return value
    made = json.loads(json.dumps(document))
    place = made
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = value
    return made

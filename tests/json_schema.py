# SPDX-License-Identifier: Apache-2.0
"""The schema of every document that ``--json`` prints, as docs/json.md has it, and what differs from it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import RequestError
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[1] / "docs/json.md"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
OWNER = re.compile(r"host|free|unbound|guest .+|mdev [0-9a-f-]{36}", re.DOTALL)


def _is_ids(text: str) -> bool:
    try:
        return not text or bool(parse_list(text))
    except RequestError:
        return False


PLAIN: dict[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "number": lambda value: type(value) is int,
    "null": lambda value: value is None,
    "uuid": lambda value: isinstance(value, str) and UUID.fullmatch(value) is not None,
    "queue": lambda value: isinstance(value, str) and Apqn.parse(value) is not None,
    "adapter": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{2}", value) is not None,
    "domain": lambda value: isinstance(value, str) and re.fullmatch("00[0-9a-f]{2}", value) is not None,
    "ids": lambda value: isinstance(value, str) and _is_ids(value),
    "time": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
    "owner": lambda value: isinstance(value, str) and OWNER.fullmatch(value) is not None,
}


class Key(NamedTuple):
    """One key of an object."""

    kind: str
    needed: bool


@cache
def documents() -> dict[str, str]:
    """What each command prints: the cell of the table, by the command's words."""
    rows = re.findall(r"^\| `apvfio (.+) --json` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    return dict(rows)


@cache
def schema() -> tuple[dict[str, dict[str, Key]], dict[str, str]]:
    """The objects with their keys, and the other types."""
    objects: dict[str, dict[str, Key]] = {}
    others: dict[str, str] = {}
    included: list[tuple[str, str]] = []
    name = ""
    for block in re.findall(r"^```schema\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for line in filter(None, block.split("\n")):
            words = line.split(None, 1)
            if not line.startswith(" "):
                name = words[0]
                assert name not in {**objects, **others, **PLAIN}, f"{name} is there twice"
                if len(words) > 1:
                    others[name] = words[1].removeprefix("= ")
                else:
                    objects[name] = {}
            elif words[0] == "+":
                included.append((name, words[1]))
            else:
                key = words[0].removesuffix("?")
                assert key not in objects[name], f"{name} has {key} twice"
                objects[name][key] = Key(words[1], needed=key == words[0])
    for name, other in included:
        assert not objects[name].keys() & objects[other].keys()
        objects[name] |= objects[other]
    return objects, others


def faults(kind: str, value: object, where: str = "it") -> Iterator[str]:
    """What in ``value`` is not of the type ``kind``, in sentences."""
    objects, others = schema()
    if " | " in kind:
        each = [list(faults(one, value, where)) for one in kind.split(" | ")]
        yield from min(each, key=len)
    elif kind in others:
        yield from faults(others[kind], value, where)
    elif kind in objects:
        yield from _faults_of_object(objects[kind], value, where)
    elif kind[0] == "[":
        yield from _faults_of_list(kind[1:-1], value, where)
    elif kind[0] == "{":
        yield from _faults_of_table(kind[1:-1], value, where)
    elif not (value == kind.strip('"') if kind[0] == '"' else PLAIN[kind](value)):
        yield f"{where} is not {kind}: {value!r}"


def _faults_of_list(kind: str, value: object, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is no list: {value!r}"
        return
    for index, one in enumerate(value):
        yield from faults(kind, one, f"{where}[{index}]")


def _faults_of_table(kinds: str, value: object, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object: {value!r}"
        return
    key_kind, value_kind = kinds.split(": ")
    for key, one in value.items():
        yield from faults(key_kind, key, f"a key of {where}")
        yield from faults(value_kind, one, f"{where}.{key}")


def _faults_of_object(keys: dict[str, Key], value: object, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object: {value!r}"
        return
    for key, (kind, needed) in keys.items():
        if key in value:
            yield from faults(kind, value[key], f"{where}.{key}")
        elif needed:
            yield f"{where} lacks {key}"
    yield from (f"{where} has {key}, which the page does not" for key in value.keys() - keys.keys())


def require(kind: str, value: object) -> None:
    """Fail unless ``value`` is a document of the type ``kind``."""
    found = list(faults(kind, value))
    assert found == [], found

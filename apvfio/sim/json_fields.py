# SPDX-License-Identifier: Apache-2.0
"""Write dataclasses as JSON and read them back, by the types of their fields.

Sets of ids are lists as people write them; queues have the kernel's names. A field with its default value is
left out, so that a host with hundreds of queues stays readable.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from apvfio.model.errors import ApvfioError, RequestError
from apvfio.model.ids import MAX_ID, NO_IDS, IdSet, format_list
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def dump_fields(thing: Any) -> dict[str, Any]:
    """The dataclass ``thing`` as JSON."""
    document = {}
    for item in fields(thing):
        value = getattr(thing, item.name)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        if value != default:
            document[item.name] = _dump(value)
    return document


def load_fields(cls: Callable[..., T], document: object, where: str) -> T:
    """The dataclass that `dump_fields` wrote; RequestError, naming ``where``, for another document."""
    entries = _typed(dict, document, where)
    kinds = _kinds(cls)
    for name in entries:
        if name not in kinds:
            raise unusable(where, f"{name[:40]!r} is not known")
    for item in fields(cls):  # type: ignore[arg-type]
        if item.name not in entries and item.default is MISSING and item.default_factory is MISSING:
            raise unusable(where, f"{item.name!r} is missing")
    return cls(**{name: _load(kinds[name], value, f"{where}.{name}") for name, value in entries.items()})


def unusable(where: str, why: str) -> RequestError:
    """The error for a document whose part ``where`` is wrong."""
    return RequestError(
        f"its content cannot be understood: in {where} {why}.", remedy="Make a new one with 'apvfio sim new'."
    )


@cache
def _kinds(cls: Callable[..., Any]) -> dict[str, Any]:
    """The types of a dataclass' fields; asked once for every queue, and slow to find out."""
    return get_type_hints(cls)


def _dump(value: Any) -> Any:
    if isinstance(value, IdSet):
        return format_list(value)
    if isinstance(value, Matrix):
        return {name: format_list(ids) for name, ids in value._asdict().items() if ids}
    if isinstance(value, dict):
        return {
            f"{key:02x}" if isinstance(key, int) else str(key): _dump(entry) for key, entry in value.items()
        }
    return dump_fields(value) if is_dataclass(value) else value


def _load(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Union:  # ``Optional[...]``
        return None if value is None else _load(get_args(kind)[0], value, where)
    if get_origin(kind):
        return _load_many(kind, value, where)
    if kind is IdSet:
        return _load_ids(value, where)
    if kind is Matrix:
        return _load_matrix(value, where)
    if is_dataclass(kind) and isinstance(kind, type):
        return load_fields(kind, value, where)
    return _typed(kind, value, where)


def _load_many(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is list:
        return [_load(get_args(kind)[0], entry, where) for entry in _typed(list, value, where)]
    key_kind, entry_kind = get_args(kind)
    return {
        _load_key(key_kind, key, where): _load(entry_kind, entry, f"{where}.{key[:40]}")
        for key, entry in _typed(dict, value, where).items()
    }


def _load_matrix(value: Any, where: str) -> Matrix:
    masks = _typed(dict, value, where)
    if not masks.keys() <= set(Matrix._fields):
        raise unusable(where, "something is not part of a matrix")
    return Matrix(**{name: _load_ids(ids, f"{where}.{name}") for name, ids in masks.items()})


def _load_ids(value: Any, where: str) -> IdSet:
    text = _typed(str, value, where)
    try:
        return parse_list(text) if text else NO_IDS
    except ApvfioError:
        raise unusable(where, f"{text[:40]!r} is not a list of ids") from None


def _load_key(kind: Any, key: str, where: str) -> Any:
    if kind is int:
        try:
            number = int(key, 16)
        except ValueError:
            number = -1
        if not 0 <= number <= MAX_ID or key != f"{number:02x}":
            raise unusable(where, f"{key[:40]!r} is not an adapter")
        return number
    if kind is Apqn:
        queue = Apqn.parse(key)
        if queue is None:
            raise unusable(where, f"{key[:40]!r} is not a queue")
        return queue
    return key


def _typed(kind: type[T], value: Any, where: str) -> T:
    # To Python, but not to JSON, a bool is an int.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise unusable(where, f"{str(value)[:40]!r} is not of type {kind.__name__}")
    return value

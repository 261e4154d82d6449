# SPDX-License-Identifier: Apache-2.0
"""`NamedTuple` and `Protocol` as in `typing`, for the hook's path.

`typing` takes longer to load than Python takes to start, and compiles a constructor for each such class.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]

__all__ = ["NamedTuple", "Protocol"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NamedTuple, Protocol

    from typing_extensions import Self


class _Maker(type):
    """Makes the classes. Their annotations are the fields: strings, in a module that has the future's."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _Maker:
        fields = tuple(body.get("__annotations__", ()))
        defaults = {field: body.pop(field) for field in fields if field in body}
        if tuple(defaults) != fields[len(fields) - len(defaults) :]:
            raise TypeError(f"{name} has a field without a default after one that has one")
        body.update((field, _tuplegetter(i, None)) for i, field in enumerate(fields))
        body |= {"__slots__": (), "_fields": fields, "_field_defaults": defaults}
        return super().__new__(cls, name, bases, body)


class _Tuple(tuple[object, ...], metaclass=_Maker):
    """What all of them share; the names that begin with ``_`` are typing's."""

    if TYPE_CHECKING:
        _fields: tuple[str, ...] = ()
        _field_defaults: dict[str, object] = {}

    def __new__(cls, *values: object, **named: object) -> Self:
        if named or len(values) != len(cls._fields):
            values = cls._completed(values, named)
        return tuple.__new__(cls, values)

    @classmethod
    def _completed(cls, values: tuple[object, ...], named: dict[str, object]) -> tuple[object, ...]:
        rest = cls._fields[len(values) :]
        known = cls._field_defaults | named
        missing = [field for field in rest if field not in known]
        if missing or len(values) > len(cls._fields) or not named.keys() <= set(rest):
            raise TypeError(
                f"{cls.__name__} has the fields {', '.join(cls._fields)}; "
                f"it got {len(values)} values and {', '.join(named) or 'no names'}"
            )
        return (*values, *(known[field] for field in rest))

    @classmethod
    def _make(cls, values: Iterable[object]) -> Self:
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}")
        return made

    def _replace(self, **named: object) -> Self:
        made = self._make(map(named.pop, self._fields, self))
        if named:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(named)}")
        return made

    def _asdict(self) -> dict[str, object]:
        return dict(zip(self._fields, self))

    def __repr__(self) -> str:
        fields = (f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({', '.join(fields)})"

    def __getnewargs__(self) -> tuple[object, ...]:
        return tuple(self)


if not TYPE_CHECKING:
    NamedTuple, Protocol = _Tuple, object

# SPDX-License-Identifier: Apache-2.0
"""Read and write JSON as `json` does, with the parts of `json` that are in C.

`json` itself also loads `re` and `enum`: a seventh of a start. It is used if the C parts are missing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

try:
    import _json as fast
except ImportError:  # an interpreter without it
    fast = None  # type: ignore[assignment]

_BLANK = " \t\n\r"


class _Reading:
    """The settings of the scanner, as json.decoder.JSONDecoder has them."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    """Of Python 3.15 and later."""
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(
        {"-Infinity": -float("inf"), "Infinity": float("inf"), "NaN": float("nan")}.get
    )


def loads(text: str) -> Any:
    """Return the value of the JSON ``text``; ValueError or RecursionError if it is no JSON."""
    try:
        scan = fast.make_scanner(_Reading)  # type: ignore[arg-type]
        value, end = scan(text, len(text) - len(text.lstrip(_BLANK)))
    except (AttributeError, StopIteration, SystemError, ValueError):
        # The scanner has no error of its own: it takes that of json.decoder, if that is loaded. There may
        # be no scanner, and that of a Python to come may ask for more settings.
        return _json().loads(text)
    if text[end:].strip(_BLANK):
        return _json().loads(text)
    return value


def dumps(value: object, *, indent: int = 0) -> str:
    """Return ``value`` as JSON: in one line, or with so many blanks more for each level."""
    try:
        encoder = fast.make_encoder(
            {}, _refuse, fast.encode_basestring_ascii, None, ": ", ", ", False, False, True
        )
    except (AttributeError, TypeError):
        return str(_json().dumps(value, indent=indent or None))
    return _indented(value, encoder, indent, 0) if indent else "".join(encoder(value, 0))


def _indented(
    value: object, encoder: Callable[[object, int], tuple[str, ...]], indent: int, level: int
) -> str:
    if not (isinstance(value, (dict, list, tuple)) and value):
        return "".join(encoder(value, 0))
    begin, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    if isinstance(value, dict):
        parts = [
            f"{fast.encode_basestring_ascii(key)}: {_indented(item, encoder, indent, level + 1)}"
            for key, item in value.items()
        ]
    else:
        parts = [_indented(item, encoder, indent, level + 1) for item in value]
    line = "\n" + " " * indent * (level + 1)
    return begin + line + f",{line}".join(parts) + "\n" + " " * indent * level + end


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def _json() -> Any:
    import json  # noqa: PLC0415

    return json

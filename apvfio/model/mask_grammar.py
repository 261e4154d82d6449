# SPDX-License-Identifier: Apache-2.0
"""chzdev's grammar for masks, such as ``1-9,0xb`` and ``+4,-0x1b``.

Input that chzdev accepts but that is almost certainly a mistake is rejected (``9-1`` in an assignment frees
the whole mask, ``--5`` means ``-0-5``); docs/masks.md lists all such differences.
"""

from __future__ import annotations

from apvfio.model.errors import RequestError
from apvfio.model.ids import MAX_ID, NO_IDS, IdSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGITS = "0123456789abcdef"
_BLANKS = " \t\n\v\f\r"
_SIGNS = ("+", "-")
_LONGEST_LIST = 4096
_SHOWN = 80
_LONGEST = 99
"""Digits; a longer number is far too big in any case, and int() has a limit."""


class MaskSpec:
    """What a mask specification does to a mask: replace it, or change some of its bits."""

    __slots__ = ("assigned", "changes")
    assigned: IdSet | None
    changes: tuple[tuple[bool, IdSet], ...]

    def __init__(self, assigned: IdSet | None, changes: Iterable[tuple[bool, IdSet]] = ()) -> None:
        self.assigned = assigned
        self.changes = tuple(changes)

    def apply(self, base: IdSet) -> IdSet:
        """The mask that comes of ``base``; changes count from left to right."""
        if self.assigned is not None:
            return self.assigned
        for add, ids in self.changes:
            base = base | ids if add else base - ids
        return base


def parse_list(text: str, what: str = "the list") -> IdSet:
    """Parse ids and ranges without signs, such as ``0,0xa,3-5``; RequestError names ``what``.

    Numbers are decimal, hexadecimal with 0x, octal with a leading 0, as everywhere in chzdev.
    """
    ids = NO_IDS
    for item in _items(text, what):
        if item.lstrip(_BLANKS)[:1] in _SIGNS:
            raise _bad(text, what, f"{_shown(item)} must not have a sign")
        ids |= _range(item, text, what)
    return ids


def parse_mask_spec(text: str, what: str = "the mask") -> MaskSpec:
    """Parse a mask specification in chzdev's grammar; RequestError names ``what``.

    The first character decides: with a sign the items change the mask, without one they replace it, and all
    items must be of that kind (s390-tools zdev/src/ap.c).
    """
    items = _items(text, what)
    if text[0] not in _SIGNS:
        return MaskSpec(parse_list(text, what))
    changes = []
    for item in items:
        if item[0] not in _SIGNS:
            raise _bad(text, what, f"{_shown(item)} has no sign, unlike the first item")
        changes.append((item[0] == "+", _range(item[1:], text, what)))
    return MaskSpec(None, changes)


def parse_id(text: str) -> int | None:
    """One number as strtoul reads it with base 0, or None; no sign, no blanks."""
    body, base = text, 10
    if text[:2] in ("0x", "0X"):
        body, base = text[2:], 16
    elif text[:1] == "0":
        base = 8
    # int() alone would also take blanks, underscores, prefixes and other alphabets' digits.
    if not body or not set(body.lower()) <= set(_DIGITS[:base]):
        return None
    return int(body.lstrip("0")[:_LONGEST] or "0", base)


def _items(text: str, what: str) -> list[str]:
    if len(text) > _LONGEST_LIST:
        raise _bad(text, what, f"it has {len(text)} characters, and {_LONGEST_LIST} are enough for all ids")
    items = [item for item in text.split(",") if item]
    if not items:
        raise _bad(text, what, "it is empty")
    return items


def _range(item: str, text: str, what: str) -> IdSet:
    first, dash, last = item.partition("-")
    # strtoul skips blanks before a number, and so does chzdev.
    ends = [parse_id(number.lstrip(_BLANKS)) for number in ((first, last) if dash else (first, first))]
    low, high = ends
    if low is None or high is None:
        raise _bad(
            text, what, f"{_shown(item)} is neither an id nor a range of ids", _hexadecimal(first, last)
        )
    if max(low, high) > MAX_ID:
        raise _bad(text, what, f"{_shown(item)} goes beyond {MAX_ID} (0xff)")
    if low > high:
        raise _bad(text, what, f"the range {_shown(item)} runs backwards")
    return IdSet.from_bits((1 << high + 1) - (1 << low))


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])


def _hexadecimal(*numbers: str) -> str:
    """Return how to write the first of ``numbers`` that has hexadecimal digits without 0x, '' if none has."""
    for number in numbers:
        digits = number.strip().lower()
        if digits and len(digits) <= _LONGEST and set(digits) <= set(_DIGITS) and parse_id(digits) is None:
            return f"Hexadecimal ids need 0x: write 0x{digits.lstrip('0') or '0'} for {digits}. "
    return ""


def _bad(text: str, what: str, why: str, hint: str = "") -> RequestError:
    return RequestError(
        f"{what} is {_shown(text)}: {why}.",
        remedy=f"{hint}Write ids and ranges such as 0,0xa,3-5.",
    )

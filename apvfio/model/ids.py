# SPDX-License-Identifier: Apache-2.0
"""Sets of adapter or domain ids (0..255), and the texts that stand for them.

Three notations meet here. chzdev's grammar (``1-9,0xb,-0x1b``) is what people type,
chzdev's normalised text (``1-9,11-255``) is what people read, and the kernel prints 64
hexadecimal digits in which id 0 is the leftmost bit. Where chzdev accepts text that can
only be a slip (``9-1`` in an assignment frees the whole mask, ``--5`` means ``-0-5``), this
parser refuses it; docs/masks.md has all such differences.
"""

from __future__ import annotations

from apvfio.model.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

IDS = 256
MAX_ID = IDS - 1
HEX_DIGITS = IDS // 4
_ALL_BITS = (1 << IDS) - 1
_DIGITS = "0123456789abcdef"
_BLANKS = " \t\n\v\f\r"
_SIGNS = ("+", "-")
_LONGEST_LIST = 4096
_SHOWN = 80
_LONGEST = 99
"""Digits; what has more is only known to be far too big, and int() has a limit."""


class IdSet:
    """An immutable set of ids 0..255, held as an integer whose bit i stands for id i."""

    __slots__ = ("bits",)
    bits: int

    def __init__(self, ids: Iterable[int] = ()) -> None:
        bits = 0
        for i in ids:
            if not 0 <= i <= MAX_ID:
                raise ValueError(f"id {i} is not in 0..{MAX_ID}")
            bits |= 1 << i
        object.__setattr__(self, "bits", bits)

    @classmethod
    def from_bits(cls, bits: int) -> IdSet:
        """The set whose id i is bit i of ``bits``; ValueError beyond 256 bits."""
        if not 0 <= bits <= _ALL_BITS:
            raise ValueError("an id set has 256 bits")
        made = cls.__new__(cls)
        object.__setattr__(made, "bits", bits)
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an IdSet does not change")

    def __iter__(self) -> Iterator[int]:
        bits = self.bits
        while bits:
            low = bits & -bits
            yield low.bit_length() - 1
            bits ^= low

    def __contains__(self, i: int) -> bool:
        return 0 <= i <= MAX_ID and bool(self.bits >> i & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return bool(self.bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdSet) and self.bits == other.bits

    def __hash__(self) -> int:
        return hash(self.bits)

    def __or__(self, other: IdSet) -> IdSet:
        return IdSet.from_bits(self.bits | other.bits)

    def __and__(self, other: IdSet) -> IdSet:
        return IdSet.from_bits(self.bits & other.bits)

    def __sub__(self, other: IdSet) -> IdSet:
        return IdSet.from_bits(self.bits & ~other.bits)

    def __le__(self, other: IdSet) -> bool:
        return not self.bits & ~other.bits

    def __str__(self) -> str:
        return format_list(self)

    def __repr__(self) -> str:
        return f"IdSet<{format_list(self)}>"


def union(sets: Iterable[IdSet]) -> IdSet:
    """All ids of ``sets``."""
    bits = 0
    for ids in sets:
        bits |= ids.bits
    return IdSet.from_bits(bits)


NO_IDS = IdSet()
ALL_IDS = IdSet.from_bits(_ALL_BITS)


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
    """Ids and ranges without signs, as ``0,0xa,3-5``; RequestError, naming ``what``, if it is not that.

    Numbers are decimal, hexadecimal with 0x, octal with a leading 0, as everywhere in chzdev.
    """
    ids = NO_IDS
    for item in _items(text, what):
        if item.lstrip(_BLANKS)[:1] in _SIGNS:
            raise _bad(text, what, f"{_shown(item)} has a sign where none may be")
        ids |= _range(item, text, what)
    return ids


def parse_mask_spec(text: str, what: str = "the mask") -> MaskSpec:
    """A mask specification in chzdev's grammar; RequestError, naming ``what``, if it is not one.

    The first character decides: with a sign the items change the mask, without one they
    replace it, and all items must be of that kind (s390-tools zdev/src/ap.c).
    """
    items = _items(text, what)
    if text[0] not in _SIGNS:
        return MaskSpec(parse_list(text, what))
    changes = []
    for item in items:
        if item[0] not in _SIGNS:
            raise _bad(text, what, f"{_shown(item)} lacks the sign that the first item has")
        changes.append((item[0] == "+", _range(item[1:], text, what)))
    return MaskSpec(None, changes)


def format_list(ids: IdSet) -> str:
    """chzdev's normalised text: decimal, ascending, every run of two or more as ``a-b``."""
    runs: list[list[int]] = []
    for i in ids:
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def format_change(clear: IdSet, add: IdSet = NO_IDS) -> str:
    """The kernel's relative form, ``-0,-10,+4-5``: one atomic read-modify-write (bus:modify_bitmap)."""
    signed = (("-", clear), ("+", add))
    return ",".join(sign + run for sign, ids in signed if ids for run in format_list(ids).split(","))


def format_hex(ids: IdSet) -> str:
    """``0x`` and 64 lower-case digits, id 0 leftmost, as the kernel prints a mask."""
    mirrored = int(f"{ids.bits:0{IDS}b}"[::-1], 2)
    return f"0x{mirrored:0{HEX_DIGITS}x}"


def parse_hex(text: str, what: str = "the mask") -> IdSet:
    """A mask as the kernel prints it; RequestError if the text is anything else."""
    digits = text.removesuffix("\n").removeprefix("0x")
    if len(digits) != HEX_DIGITS or not set(digits.lower()) <= set(_DIGITS):
        raise RequestError(
            f"{what} reads {_shown(text)} where 64 hexadecimal digits belong.",
            remedy="No kernel says so: look what this tree is.",
        )
    return IdSet.from_bits(int(f"{int(digits, 16):0{IDS}b}"[::-1], 2))


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
        raise _bad(text, what, f"{_shown(item)} is neither an id nor a range of ids")
    if max(low, high) > MAX_ID:
        raise _bad(text, what, f"{_shown(item)} goes beyond {MAX_ID} (0xff)")
    if low > high:
        raise _bad(text, what, f"the range {_shown(item)} runs backwards")
    return IdSet.from_bits((1 << high + 1) - (1 << low))


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])


def _bad(text: str, what: str, why: str) -> RequestError:
    return RequestError(
        f"{what} is {_shown(text)}: {why}.",
        remedy="Write ids and ranges such as 0,0xa,3-5.",
    )

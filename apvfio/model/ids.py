# SPDX-License-Identifier: Apache-2.0
"""Sets of adapter or domain ids (0..255), in chzdev's normalised text and in the kernel's notation.

chzdev prints ``1-9,11-255``; the kernel prints 64 hexadecimal digits in which id 0 is the leftmost bit.
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
_SHOWN = 80


class IdSet:
    """An immutable set of ids 0..255, stored as an integer: bit i for id i."""

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
        return bit_count(self.bits)

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


def bit_count(bits: int) -> int:
    """The number of ones in ``bits``, as int.bit_count of Python 3.10 and later."""
    return bin(bits).count("1")


def union(sets: Iterable[IdSet]) -> IdSet:
    """All ids of ``sets``."""
    bits = 0
    for ids in sets:
        bits |= ids.bits
    return IdSet.from_bits(bits)


NO_IDS = IdSet()
ALL_IDS = IdSet.from_bits(_ALL_BITS)


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
            f"{what} reads {text[:_SHOWN]!r} where 64 hexadecimal digits belong.",
            remedy="Unexpected content; check that --root names a valid sysfs tree.",
        )
    return IdSet.from_bits(int(f"{int(digits, 16):0{IDS}b}"[::-1], 2))

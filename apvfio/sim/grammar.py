# SPDX-License-Identifier: Apache-2.0
"""How the kernel parses what is written to its files, oddities included.

Every parser stops at the first NUL, as C strings do, and raises OSError with the kernel's errno.
"""

from __future__ import annotations

import os
import re
from errno import EINVAL, ERANGE

from apvfio.model.ids import HEX_DIGITS, IDS, IdSet
from apvfio.model.mask_grammar import parse_id
from apvfio.model.matrix import Matrix

_UNSIGNED = "0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*"
"""What strtoul takes with base 0: a leading 0 means octal."""
_ABSOLUTE = re.compile(rf"(?:0?x)?([0-9a-fA-F]{{0,{HEX_DIGITS}}})\n?")
_EDIT = re.compile(rf"([+-])({_UNSIGNED})(?:-({_UNSIGNED}))?[,\n]*")
_KSTRTOUL = re.compile(rf"\+?({_UNSIGNED})")
_PERCENT_I = re.compile(rf"\s*(-?)({_UNSIGNED})", re.ASCII)
_PERCENT_D = re.compile(r"\s*(-?)0*([0-9]+)", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UUID_LENGTH = 36
_ACTIONS = frozenset(("add", "remove", "change", "move", "online", "offline", "bind", "unbind"))
_WORD = 1 << 64
_PAGE = 4096


def refusal(number: int) -> OSError:
    """The error that a store function answers with ``-number``."""
    return OSError(number, os.strerror(number))


def c_string(text: str) -> str:
    """``text`` up to its first NUL."""
    return text.partition("\0")[0]


def parse_mask(text: str, current: IdSet) -> IdSet:
    """A mask file's new content: edits of ``current``, or a mask to replace it (bus:ap_parse_bitmap_str)."""
    text = c_string(text)
    return _edited(text, current) if text[:1] in ("+", "-") else parse_absolute(text)


def parse_absolute(text: str) -> IdSet:
    """Hexadecimal digits, id 0 leftmost; a short text, even none, goes on in zeros (bus:ap_hex2bitmap)."""
    match = _ABSOLUTE.fullmatch(c_string(text))
    if not match:
        raise refusal(EINVAL)
    digits = match[1].ljust(HEX_DIGITS, "0")
    return IdSet.from_bits(int(f"{int(digits, 16):0{IDS}b}"[::-1], 2))


def _edited(text: str, ids: IdSet) -> IdSet:
    """``ids`` after the edits in ``text``, left to right (bus:modify_bitmap)."""
    position = 0
    while position < len(text):
        match = _EDIT.match(text, position)
        if not match:
            raise refusal(EINVAL)
        first = _number(match[2])
        last = _number(match[3]) if match[3] else first
        if not first <= last < IDS:
            raise refusal(EINVAL)
        run = IdSet.from_bits((1 << last + 1) - (1 << first))
        ids = ids | run if match[1] == "+" else ids - run
        position = match.end()
    return ids


def parse_ap_config(text: str) -> Matrix:
    """Three absolute masks; what follows them is ignored (vops:ap_config_store, parse_bitmap)."""
    masks = re.split("[,\n]", c_string(text), maxsplit=3)
    if len(masks) < 3:
        raise refusal(EINVAL)
    return Matrix(*(parse_absolute(mask) for mask in masks[:3]))


def kstrtoul(text: str) -> int:
    """A number of 64 bits in base 0, one trailing newline allowed (kstr:kstrtoull)."""
    text = c_string(text)
    match = _KSTRTOUL.match(text)
    if not match:
        raise refusal(EINVAL)
    number = parse_id(match[1])
    assert number is not None
    if number >= _WORD:
        raise refusal(ERANGE)
    if text[match.end() :] not in ("", "\n"):
        raise refusal(EINVAL)
    return number


def sscanf_i(text: str) -> int:
    """``%i``: base 0; leading blanks and anything after the number do not matter (lib/vsprintf.c)."""
    match = _PERCENT_I.match(c_string(text))
    if not match:
        raise refusal(EINVAL)
    return _as_int(match[1], _number(match[2]))


def sscanf_d(text: str) -> int:
    """``%d``: as ``%i``, but decimal, so that ``0x1`` is 0 (lib/vsprintf.c)."""
    match = _PERCENT_D.match(c_string(text))
    if not match:
        raise refusal(EINVAL)
    return _as_int(match[1], min(int(match[2]), _WORD - 1))


def kstrtobool(text: str, *, long_bools: bool) -> bool:
    """Its first letter decides, after an o the second; 7.2 knows e and d, too (kstr:kstrtobool)."""
    head = c_string(text)[:2].lower()
    key = head if head[:1] == "o" else head[:1]
    if key in ("y", "t", "1", "on") or (key == "e" and long_bools):
        return True
    if key in ("n", "f", "0", "of") or (key == "d" and long_bools):
        return False
    raise refusal(EINVAL)


def parse_uuid(text: str) -> str:
    """A new device's uuid in lower case; a 37th character is taken unseen (msys:create_store)."""
    uuid = text[:_UUID_LENGTH]
    if len(text) > _UUID_LENGTH + 1 or not _UUID.fullmatch(uuid):
        raise refusal(EINVAL)
    return uuid.lower()


def parse_override(text: str) -> str:
    """A driver's name, verbatim up to the first newline; '' clears (dd:__device_set_driver_override)."""
    if len(text) >= _PAGE - 1:
        raise refusal(EINVAL)
    return c_string(text).partition("\n")[0]


def device_name(text: str) -> str:
    """A device's name as ``bind`` and its like take it: one trailing newline is no part of it."""
    return c_string(text).removesuffix("\n")


def check_action(text: str) -> None:
    """EINVAL unless a file ``uevent`` takes ``text`` (lib/kobject_uevent.c:kobject_synth_uevent)."""
    body = text[:-1] if text[-1] in "\n\0" else text
    if body.partition(" ")[0] not in _ACTIONS:
        raise refusal(EINVAL)


def _number(digits: str) -> int:
    """simple_strtoul: no more than 64 bits hold. Before 7.2 they wrap around instead (lib/kstrtox.c)."""
    number = parse_id(digits)
    assert number is not None
    return min(number, _WORD - 1)


def _as_int(sign: str, number: int) -> int:
    """``number`` as it ends up in an int of 32 bits."""
    signed = -number if sign else number
    return (signed + (1 << 31)) % (1 << 32) - (1 << 31)

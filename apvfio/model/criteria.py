# SPDX-License-Identifier: Apache-2.0
"""Criteria: the queues that a guest needs, requested by their properties instead of their ids.

The words are those of pvapconfig, which picks queues inside a secure-execution guest.
"""

from __future__ import annotations

from apvfio.model.errors import RequestError, printable
from apvfio.model.ids import IDS, NO_IDS, IdSet, format_list
from apvfio.model.mask_grammar import parse_list
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CCA = "cca"
EP11 = "ep11"
MODES = ("accel", CCA, EP11)
"""What a Crypto Express adapter can be set up as."""
KEYLESS = "accel"
_SECURE_ADAPTERS = 2
"""How many adapters a Secure Execution guest gets in mode ep11 unless it says so: redundancy is the same
master key on separate adapters, never in two domains of one (ibm.com/docs: linuxonibm/lxse,
lxse_c_ep11_reqs)."""
_MKVP_DIGITS = (16, 32, 64)
"""CCA's AES and APKA, CCA's ASYM or the half of EP11's that counts, and EP11's whole pattern."""
_EP11_HALF = 32
_MAX_GENERATION = 99
_EXAMPLE = 'Write <ap:any mode="ep11" adapters="2" domains="1"/>.'
_OPTION_EXAMPLE = "Write --any mode=ep11,adapters=2,domains=1."

ATTRIBUTES = ("mode", "adapters", "domains", "min-generation", "mkvp", "control-domains")


class Criteria(NamedTuple):
    """How many adapters and domains, and what every queue of their rectangle must be like."""

    mode: str
    adapters: int = 1
    domains: int = 1
    min_generation: int = 0
    """The oldest card that will do: 7 for a CEX7S; 0 for any."""
    mkvp: str = ""
    """A master key's verification pattern in lower-case hexadecimal digits without 0x, '' for any."""
    control_domains: IdSet = NO_IDS

    def attributes(self) -> dict[str, str]:
        """The attributes of ``<ap:any>`` that stand for it; those with their default are left out."""
        texts = {"mode": self.mode, "adapters": str(self.adapters), "domains": str(self.domains)}
        if self.min_generation:
            texts["min-generation"] = str(self.min_generation)
        if self.mkvp:
            texts["mkvp"] = f"0x{self.mkvp}"
        if self.control_domains:
            texts["control-domains"] = format_list(self.control_domains)
        return texts

    def as_option(self) -> str:
        """Return what ``--any`` takes for it: all but the control domains, which have their own option."""
        return ",".join(f"{key}={text}" for key, text in self.attributes().items() if key != ATTRIBUTES[-1])

    def __str__(self) -> str:
        words = [f"any {count(self.adapters, 'adapter')} x {count(self.domains, 'domain')}", self.mode]
        if self.min_generation:
            words.append(f"CEX{self.min_generation} or newer")
        if self.mkvp:
            words.append(f"master key 0x{self.mkvp}")
        if self.control_domains:
            words.append(f"control domains {self.control_domains}")
        return ", ".join(words)


def count(n: int, what: str) -> str:
    """``1 adapter``, ``2 adapters``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def same_key(wanted: str, pattern: str) -> bool:
    """Whether the hexadecimal ``pattern`` of a register is the one ``wanted``.

    EP11 shows 32 bytes, of which zkey shows and compares the first 16 alone.
    """
    wanted, pattern = wanted.lower().removeprefix("0x"), pattern.lower().removeprefix("0x")
    if len(wanted) == _EP11_HALF and len(pattern) == 2 * _EP11_HALF:
        pattern = pattern[:_EP11_HALF]
    return len(wanted) == len(pattern) and wanted == pattern


def parse_criteria(texts: Mapping[str, str], *, secure: bool = False) -> Criteria:
    """The criteria that the attributes of ``<any>`` stand for; RequestError names attribute and fix.

    ``secure``: for a Secure Execution guest, which gets two adapters in mode ep11 if it names no number.
    """
    return _parse(texts, "the attribute {} of <any>", _EXAMPLE, secure=secure)


def parse_option(text: str, control_domains: str | None, *, secure: bool = False) -> Criteria:
    """The criteria in ``--any mode=ep11,adapters=2``; RequestError names key and fix.

    ``secure`` as with `parse_criteria`.
    """
    texts = {} if control_domains is None else {"control-domains": control_domains}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or key not in ATTRIBUTES[:-1]:
            known = ", ".join(ATTRIBUTES[:-1])
            raise RequestError(
                f"--any has {printable(item)!r}, and knows only {known}, each with = and a value.",
                remedy=_OPTION_EXAMPLE,
            )
        if key in texts:
            raise RequestError(f"--any has {key} twice.", remedy="Leave one out.")
        texts[key] = value.strip()
    return _parse(texts, "{} of --any", _OPTION_EXAMPLE, secure=secure)


def _parse(texts: Mapping[str, str], where: str, example: str, *, secure: bool) -> Criteria:
    mode = texts.get("mode")
    mode = mode and mode.strip()
    if mode not in MODES:
        what = where.format("mode")
        is_what = "is missing" if mode is None else f"is {printable(mode)!r}"
        raise RequestError(f"{what} {is_what}; it must be accel, cca or ep11.", remedy=example)
    control = texts.get("control-domains")
    return Criteria(
        mode=mode,
        adapters=_number(texts, "adapters", where, IDS)
        or (_SECURE_ADAPTERS if secure and mode == EP11 else 1),
        domains=_number(texts, "domains", where, IDS) or 1,
        min_generation=_number(texts, "min-generation", where, _MAX_GENERATION),
        mkvp=_mkvp(texts, where, mode),
        control_domains=NO_IDS if control is None else parse_list(control, where.format("control-domains")),
    )


def _number(texts: Mapping[str, str], name: str, where: str, most: int) -> int:
    """The number, 0 if it is not given."""
    text = texts.get(name)
    if text is None:
        return 0
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 4 and 1 <= int(digits) <= most):
        raise RequestError(
            f"{where.format(name)} is {printable(text)!r}.",
            remedy=f"Write a decimal number from 1 to {most}"
            + (", such as 7 for CEX7S." if name == "min-generation" else ": a count, not an id."),
        )
    return int(digits)


def _mkvp(texts: Mapping[str, str], where: str, mode: str) -> str:
    text = texts.get("mkvp")
    if text is None:
        return ""
    digits = text.strip().lower().removeprefix("0x")
    if len(digits) not in _MKVP_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise RequestError(
            f"{where.format('mkvp')} is {printable(text)!r}.",
            remedy="Write a master key verification pattern of 16, 32 or 64 hexadecimal digits, "
            "as 'lszcrypt -V' and the queue's mkvps show it.",
        )
    if mode == KEYLESS:
        raise RequestError(
            f"{where.format('mkvp')} requires a master key, but accelerators have none.",
            remedy="Leave mkvp out, or request the mode cca or ep11.",
        )
    return digits

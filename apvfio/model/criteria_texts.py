# SPDX-License-Identifier: Apache-2.0
"""Criteria read from the annotation's attributes or from options; each fault gets a sentence of its own."""

from __future__ import annotations

from apvfio.model.criteria import (
    ANY_REGISTER,
    CONTROL,
    DISTINCT,
    EP11,
    KEYLESS,
    MODES,
    REGISTERS,
    SAME,
    USAGE,
    CardCriteria,
    Criteria,
)
from apvfio.model.errors import RequestError, printable
from apvfio.model.ids import IDS, NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.master_keys import MasterKey
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECURE_ADAPTERS = 2
"""How many adapters a Secure Execution guest gets in mode ep11 unless it says so: redundancy is the same
master key on separate adapters, never in two domains of one (ibm.com/docs: linuxonibm/lxse,
lxse_c_ep11_reqs)."""
_DIGITS = {"aes": (16,), "apka": (16,), "asym": (32,), "wk": (32, 64)}
"""Of the pattern of each register. EP11 shows 64, of which zkey shows and compares the first 32."""
_MAX_GENERATION = 99
_BLANKS = " \t\r\n"
_MKVPS = ("mkvp", *(f"mkvp-{register}" for mode in MODES for register in REGISTERS[mode]))

CARD_ATTRIBUTES = ("mode", "adapters", "min-generation", "generations", *_MKVPS)
"""Those of ``<cards>``, and the keys of ``--cards``."""
SHARED_ATTRIBUTES = ("domains", CONTROL)
"""The attributes of ``<any>`` that can be combined with ``<cards>``."""
ATTRIBUTES = (*CARD_ATTRIBUTES[:2], "domains", *CARD_ATTRIBUTES[2:], CONTROL)
"""Those of ``<any>``."""


class _Words(NamedTuple):
    """How the source of criteria is named in messages."""

    any: str
    """A property of the whole request, with a place for its name."""
    cards: str
    """A property of one kind of adapters among several."""
    any_name: str
    cards_name: str
    example: str
    cards_example: str


_XML = _Words(
    "the attribute {} of <any>",
    "the attribute {} of <cards>",
    "<any>",
    "<cards>",
    'Write <ap:any mode="ep11" adapters="2" domains="1"/>.',
    'Write <ap:any domains="1"><ap:cards mode="cca" adapters="2"/><ap:cards mode="ep11" adapters="1"/>'
    "</ap:any>.",
)
_OPTIONS = _Words(
    "{} of --any",
    "{} of --cards",
    "--any",
    "--cards",
    "Write --any mode=ep11,adapters=2,domains=1.",
    "Write --any domains=1 --cards mode=cca,adapters=2 --cards mode=ep11,adapters=1.",
)


def parse_criteria(
    texts: Mapping[str, str], children: Sequence[Mapping[str, str]] = (), *, secure: bool = False
) -> Criteria:
    """The criteria that the attributes of ``<any>``, and of each ``<cards>`` in it, stand for.

    RequestError names attribute and fix. ``secure``: for a Secure Execution guest, which gets two adapters in
    mode ep11 if it names no number.
    """
    return _parse(texts, children, _XML, secure=secure)


def parse_options(
    text: str, cards: Sequence[str] = (), control_domains: str | None = None, *, secure: bool = False
) -> Criteria:
    """The criteria in ``--any mode=ep11,adapters=2``, or in ``--any domains=1`` and several ``--cards``.

    RequestError names key and fix. ``secure`` as with `parse_criteria`.
    """
    texts = option_texts(text)
    if control_domains is not None:
        texts[CONTROL] = control_domains
    children = [_pairs(one, CARD_ATTRIBUTES, _OPTIONS.cards_name, _OPTIONS.cards_example) for one in cards]
    return _parse(texts, children, _OPTIONS, secure=secure)


def option_texts(text: str) -> dict[str, str]:
    """The properties in the value of ``--any``, '' for none; RequestError if it is no list of those."""
    return _pairs(text, ATTRIBUTES[:-1], _OPTIONS.any_name, _OPTIONS.example) if text else {}


def _pairs(text: str, known: Sequence[str], option: str, example: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for item in text.split(","):
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or key not in known:
            raise RequestError(
                f"{option} has {printable(item)!r}, and knows only {', '.join(known)}, "
                "each with = and a value.",
                remedy=example,
            )
        if key in texts:
            raise RequestError(f"{option} has {key} twice.", remedy="Leave one out.")
        texts[key] = value.strip()
    return texts


def _parse(
    texts: Mapping[str, str], children: Sequence[Mapping[str, str]], words: _Words, *, secure: bool
) -> Criteria:
    if children:
        beside = [name for name in ATTRIBUTES if name in texts and name not in SHARED_ATTRIBUTES]
        if beside:
            raise RequestError(
                f"{words.any.format(beside[0])} cannot be combined with {words.cards_name}, which "
                f"describes each "
                "kind of adapters.",
                remedy=words.cards_example,
            )
        cards = [_cards(child, words.cards, words, among=True, secure=secure) for child in children]
        total = sum(one.adapters for one in cards)
        if total > IDS:
            raise RequestError(
                f"{words.cards_name} requests {total} adapters in all, and no host has more than {IDS}.",
                remedy="Request fewer.",
            )
    else:
        cards = [_cards(texts, words.any, words, among=False, secure=secure)]
    control = texts.get(CONTROL)
    usage = control is not None and control.strip(_BLANKS) == USAGE
    ids = NO_IDS if control is None or usage else parse_list(control, words.any.format(CONTROL))
    return Criteria(tuple(cards), _number(texts, "domains", words.any, IDS) or 1, ids, usage)


def _cards(texts: Mapping[str, str], where: str, words: _Words, *, among: bool, secure: bool) -> CardCriteria:
    """One kind of adapters; ``among`` several each must say how many."""
    mode = texts.get("mode")
    mode = mode and mode.strip()
    example = words.cards_example if among else words.example
    if mode not in MODES:
        what = where.format("mode")
        is_what = "is missing" if mode is None else f"is {printable(mode)!r}"
        raise RequestError(f"{what} {is_what}; it must be accel, cca or ep11.", remedy=example)
    if among and "adapters" not in texts:
        raise RequestError(
            f"{where.format('adapters')} is missing: each kind of adapters needs its number.", remedy=example
        )
    return CardCriteria(
        mode=mode,
        adapters=_number(texts, "adapters", where, IDS)
        or (_SECURE_ADAPTERS if secure and mode == EP11 else 1),
        min_generation=_number(texts, "min-generation", where, _MAX_GENERATION),
        generations=_generations(texts, where),
        keys=_keys(texts, where, mode),
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


def _generations(texts: Mapping[str, str], where: str) -> str:
    text = texts.get("generations")
    if text is None:
        return ""
    if text.strip(_BLANKS) not in (SAME, DISTINCT):
        raise RequestError(
            f"{where.format('generations')} is {printable(text)!r}; it must be {SAME} or {DISTINCT}.",
            remedy="Leave generations out if the adapters may be of any generation.",
        )
    return text.strip(_BLANKS)


def _keys(texts: Mapping[str, str], where: str, mode: str) -> tuple[MasterKey, ...]:
    named = [name for name in _MKVPS if name in texts]
    if "mkvp" in named and len(named) > 1:
        raise RequestError(
            f"{where.format('mkvp')} and {named[1]} exclude each other.",
            remedy="Use mkvp for a key in any register, or name each register.",
        )
    return tuple([_key(texts[name], name, where.format(name), mode) for name in named])


def _key(text: str, name: str, what: str, mode: str) -> MasterKey:
    if mode == KEYLESS:
        raise RequestError(
            f"{what} requires a master key, but accelerators have none.",
            remedy=f"Leave {name} out, or request the mode cca or ep11.",
        )
    register = name.partition("-")[2] or ANY_REGISTER
    if register not in (ANY_REGISTER, *REGISTERS[mode]):
        there = " or ".join(f"mkvp-{one}" for one in REGISTERS[mode])
        raise RequestError(
            f"{what} names the register {register}, which adapters in mode {mode} do not have.",
            remedy=f"Write {there}, or request the other mode.",
        )
    lengths = sorted({n for one in ([register] if register else REGISTERS[mode]) for n in _DIGITS[one]})
    digits = text.strip().lower().removeprefix("0x")
    if len(digits) not in lengths or not set(digits) <= set("0123456789abcdef"):
        raise RequestError(
            f"{what} is {printable(text)!r}, and a pattern of "
            f"{f'the register {register}' if register else f'mode {mode}'} has "
            f"{' or '.join(map(str, lengths))} hexadecimal digits.",
            remedy="Write the verification pattern of the current master key: see 'apvfio keys list'.",
        )
    return MasterKey(register, digits)

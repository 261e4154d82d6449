# SPDX-License-Identifier: Apache-2.0
"""Criteria: the queues that a guest needs, requested by their properties instead of their ids.

The words are those of pvapconfig, which picks queues inside a secure-execution guest. How they are read is in
`apvfio.model.criteria_texts`.
"""

from __future__ import annotations

from apvfio.model.ids import NO_IDS, IdSet, format_list
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from apvfio.model.master_keys import MasterKey

CCA = "cca"
EP11 = "ep11"
MODES = ("accel", CCA, EP11)
"""The modes of a Crypto Express adapter."""
KEYLESS = "accel"
REGISTERS = {KEYLESS: (), CCA: ("aes", "apka", "asym"), EP11: ("wk",)}
"""For each mode the registers with the current master keys (cex:cca_mkvps_show, ep11_mkvps_show)."""
ANY_REGISTER = ""
SAME = "same"
DISTINCT = "distinct"
GENERATIONS = {SAME: "of one generation", DISTINCT: "of distinct generations"}
"""What adapters are, in words."""
USAGE = "usage"
"""The control domains are the domains that the guest gets."""
CONTROL = "control-domains"
_EP11_HALF = 32


class CardCriteria(NamedTuple):
    """The number of adapters of one kind, and their properties."""

    mode: str
    adapters: int = 1
    min_generation: int = 0
    """The oldest card that will do: 7 for a CEX7S; 0 for any."""
    generations: str = ""
    """`SAME` if all adapters must be of one generation, `DISTINCT` if no two may be; '' for either."""
    keys: tuple[MasterKey, ...] = ()
    """The current master keys that each queue must have. The register is `ANY_REGISTER` where any will do."""

    @property
    def mkvps(self) -> list[str]:
        """The verification patterns of the keys."""
        return [key.mkvp for key in self.keys]

    def meets(self, keys: Collection[MasterKey]) -> bool:
        """Whether a queue with these current master ``keys`` has all that are required."""
        return all(any(_is(wanted, key) for key in keys) for wanted in self.keys)

    def attributes(self) -> dict[str, str]:
        """The attributes of ``<ap:cards>`` that stand for it; those with their default are left out."""
        texts = {"mode": self.mode, "adapters": str(self.adapters)}
        if self.min_generation:
            texts["min-generation"] = str(self.min_generation)
        if self.generations:
            texts["generations"] = self.generations
        return {**texts, **{_attribute(key.register): f"0x{key.mkvp}" for key in self.keys}}

    def as_option(self) -> str:
        """Return what ``--cards`` takes for it."""
        return _as_option(self.attributes())

    @property
    def size(self) -> str:
        """How many adapters in which mode, in words."""
        return count(self.adapters, f"{self.mode} adapter")

    @property
    def details(self) -> list[str]:
        """What else each must be like, in words."""
        words = [f"CEX{self.min_generation} or newer"] if self.min_generation else []
        if self.generations:
            words.append(GENERATIONS[self.generations])
        return words + [key_words(key) for key in self.keys]

    def __str__(self) -> str:
        details = ", ".join(self.details)
        return f"{self.size} ({details})" if details else self.size


class Criteria(NamedTuple):
    """What every queue of a guest's rectangle must be like: kinds of adapters, which share the domains."""

    cards: tuple[CardCriteria, ...]
    domains: int = 1
    control_domains: IdSet = NO_IDS
    control_usage: bool = False
    """Whether the guest controls the domains that it gets, in place of ``control_domains``."""

    @property
    def adapters(self) -> int:
        """How many adapters in all."""
        return sum(cards.adapters for cards in self.cards)

    @property
    def names_keys(self) -> bool:
        """Whether any queue must have a certain master key."""
        return any(cards.keys for cards in self.cards)

    @property
    def control(self) -> str:
        """The control domains as the annotation has them, '' for none."""
        return USAGE if self.control_usage else format_list(self.control_domains)

    def control_of(self, domains: IdSet) -> IdSet:
        """The control domains of a guest that gets these ``domains``."""
        return domains if self.control_usage else self.control_domains

    def attributes(self) -> dict[str, str]:
        """The attributes of ``<ap:any>`` that stand for it; those with their default are left out."""
        alone = self.cards[0].attributes() if len(self.cards) == 1 else {}
        first = {name: text for name, text in alone.items() if name in ("mode", "adapters")}
        texts: dict[str, str] = {**first, "domains": str(self.domains), **alone}
        return {**texts, CONTROL: self.control} if self.control else texts

    def children(self) -> list[dict[str, str]]:
        """The attributes of each ``<ap:cards>`` in it; none if those of ``<ap:any>`` say all."""
        return [cards.attributes() for cards in self.cards] if len(self.cards) > 1 else []

    def as_option(self) -> str:
        """Return what ``--any`` takes for it: all but the control domains, which have their own option."""
        return _as_option({key: text for key, text in self.attributes().items() if key != CONTROL})

    def as_json(self) -> dict[str, object]:
        """Return it as every ``--json`` prints it: the values of ``--any`` and of each ``--cards``."""
        return {
            "any": self.as_option(),
            "cards": [cards.as_option() for cards in self.cards] if len(self.cards) > 1 else [],
        }

    def __str__(self) -> str:
        domains = count(self.domains, "domain")
        if len(self.cards) == 1:
            (cards,) = self.cards
            words = [f"any {count(cards.adapters, 'adapter')} x {domains}", cards.mode, *cards.details]
        else:
            words = [f"any ({' + '.join(map(str, self.cards))}) x {domains}"]
        if self.control:
            whose = "those it gets" if self.control_usage else self.control_domains
            words.append(f"control domains {whose}")
        return ", ".join(words)


def count(n: int, what: str) -> str:
    """``1 adapter``, ``2 adapters``."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def key_words(key: MasterKey) -> str:
    """``master key 0x12``, or ``AES master key 0x12`` where the register matters."""
    register = f"{key.register.upper()} " if key.register else ""
    return f"{register}master key 0x{key.mkvp}"


def same_key(wanted: str, pattern: str) -> bool:
    """Whether the hexadecimal ``pattern`` of a register is the one ``wanted``.

    EP11 shows 32 bytes, of which zkey shows and compares the first 16 alone.
    """
    wanted, pattern = wanted.lower().removeprefix("0x"), pattern.lower().removeprefix("0x")
    if len(wanted) == _EP11_HALF and len(pattern) == 2 * _EP11_HALF:
        pattern = pattern[:_EP11_HALF]
    return len(wanted) == len(pattern) and wanted == pattern


def _is(wanted: MasterKey, key: MasterKey) -> bool:
    return wanted.register in (ANY_REGISTER, key.register) and same_key(wanted.mkvp, key.mkvp)


def _attribute(register: str) -> str:
    return f"mkvp-{register}" if register else "mkvp"


def _as_option(texts: dict[str, str]) -> str:
    return ",".join(f"{key}={text}" for key, text in texts.items())

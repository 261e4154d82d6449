# SPDX-License-Identifier: Apache-2.0
"""A queue (APQN), a matrix: the rectangle that one guest gets, and an area: whole adapters or domains."""

from __future__ import annotations

from apvfio.model.ids import NO_IDS, IdSet, format_hex, format_list, parse_hex
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Apqn(NamedTuple):
    """One AP queue: an adapter id (APID) and a domain id (APQI), each 0..255."""

    adapter: int
    domain: int

    def __str__(self) -> str:
        return f"{self.adapter:02x}.{self.domain:04x}"

    @classmethod
    def parse(cls, text: str) -> Apqn | None:
        """The queue that the kernel calls ``text`` (``0a.001b``), or None if that is no queue's name."""
        if len(text) != 7 or text[2] != ".":
            return None
        try:
            made = cls(int(text[:2], 16), int(text[3:], 16))
        except ValueError:
            return None
        return made if str(made) == text and made.domain <= 0xFF else None


class Matrix(NamedTuple):
    """Adapters x usage domains, and the control domains, of one guest or mediated device."""

    adapters: IdSet = NO_IDS
    domains: IdSet = NO_IDS
    control_domains: IdSet = NO_IDS

    def queues(self) -> Iterator[Apqn]:
        """Every queue of the rectangle, adapter by adapter."""
        for adapter in self.adapters:
            for domain in self.domains:
                yield Apqn(adapter, domain)

    def holds(self, queue: Apqn) -> bool:
        """Whether ``queue`` lies in the rectangle."""
        return queue.adapter in self.adapters and queue.domain in self.domains

    def meets(self, other: Matrix) -> bool:
        """Whether there is a queue that both have."""
        return bool(self.adapters.bits & other.adapters.bits and self.domains.bits & other.domains.bits)

    def overlap(self, other: Matrix) -> Matrix:
        """The rectangle of queues that both have; control domains may be shared and do not count."""
        return Matrix(self.adapters & other.adapters, self.domains & other.domains)

    @property
    def empty(self) -> bool:
        """Whether there is no queue in it: one dimension alone makes none."""
        return not (self.adapters.bits and self.domains.bits)

    def lists(self) -> dict[str, str]:
        """Return the three lists in chzdev's notation, by name, as the ledger and ``--json`` have them."""
        return {name: format_list(ids) for name, ids in zip(self._fields, self)}

    def as_ap_config(self) -> str:
        """The three masks that an mdev's ``ap_config`` takes (vops:ap_config_store)."""
        return ",".join(format_hex(ids) for ids in self)

    @classmethod
    def from_ap_config(cls, text: str) -> Matrix:
        """The matrix that ``ap_config`` prints; RequestError if it prints something else."""
        masks = text.removesuffix("\n").split(",")
        return cls(*(parse_hex(mask, "ap_config") for mask in masks[:3] + [""] * (3 - len(masks))))

    def __str__(self) -> str:
        control = f", control domains {self.control_domains}" if self.control_domains else ""
        return f"adapters {self.adapters or 'none'}, domains {self.domains or 'none'}{control}"


class Area(NamedTuple):
    """What a planned change concerns: all queues on one of its adapters or domains, or simply all."""

    adapters: IdSet = NO_IDS
    domains: IdSet = NO_IDS
    everything: bool = False

    def holds(self, queue: Apqn) -> bool:
        """Whether ``queue`` lies in the area."""
        return self.everything or queue.adapter in self.adapters or queue.domain in self.domains

    def meets(self, matrix: Matrix) -> bool:
        """Whether a queue of ``matrix`` lies in the area."""
        return not matrix.empty and (
            self.everything or bool(self.adapters & matrix.adapters) or bool(self.domains & matrix.domains)
        )

    def overlaps(self, other: Area) -> bool:
        """Whether a queue can lie in both; an adapter and a domain always cross."""
        if self.everything or other.everything:
            return True
        crossing = (self.adapters and other.domains) or (self.domains and other.adapters)
        return bool(crossing or self.adapters & other.adapters or self.domains & other.domains)

    def queues_of(self, matrix: Matrix) -> list[Apqn]:
        """The queues of ``matrix`` that lie in the area."""
        return [queue for queue in matrix.queues() if self.holds(queue)]

    def union(self, other: Area) -> Area:
        """The area with all queues of both."""
        if self.everything or other.everything:
            return Area(everything=True)
        return Area(self.adapters | other.adapters, self.domains | other.domains)

    def as_json(self) -> dict[str, object]:
        """The area as ``--json`` and the file of the drains have it."""
        return {
            "adapters": format_list(self.adapters),
            "domains": format_list(self.domains),
            "everything": self.everything,
        }

    def __str__(self) -> str:
        if self.everything:
            return "all queues"
        parts = [
            f"{kind}{'s' if len(ids) > 1 else ''} {ids} ({', '.join(f'{i:0{digits}x}' for i in ids)})"
            for kind, ids, digits in (("adapter", self.adapters, 2), ("domain", self.domains, 4))
            if ids
        ]
        return " and ".join(parts)


def covering(matrices: Iterable[Matrix]) -> Callable[[Apqn], bool]:
    """A predicate: whether any of ``matrices`` holds a queue. Its cost does not depend on their number."""
    domains: dict[int, int] = {}
    for matrix in matrices:
        for adapter in matrix.adapters:
            domains[adapter] = domains.get(adapter, 0) | matrix.domains.bits
    return lambda queue: bool(domains.get(queue.adapter, 0) >> queue.domain & 1)

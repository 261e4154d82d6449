# SPDX-License-Identifier: Apache-2.0
"""What a picture of a host's matrix shows: its cells, their marks and the legend.

Text and SVG are drawn from it, so that they cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import printable
from apvfio.model.owners import FREE, GUEST, HOST, MDEV, UNBOUND, Owner
from apvfio.model.queue_states import NO_STATES, STATES, QueueStates
from apvfio.model.text import count_queues, some_queues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from apvfio.model.matrix import Apqn

RESERVED = Owner("host, reserved by policy")
"""A queue of the host that no guest may have. The others' marks do not change if they have one."""

COMMON = {HOST: "·", RESERVED: "■", FREE: "○", UNBOUND: "?"}
# Without o, which looks like a free queue.
_LETTERS = "abcdefghijklmnpqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ"
_DIGITS = "123456789"
_NAME_LIMIT = 48
_TYPE_LIMIT = 8
HUES = 8
"""So many colors are there; more owners than that share them, and the marks tell them apart."""


class Cell(NamedTuple):
    """One queue: its owner, and one of `apvfio.model.queue_states.STATES` or ''."""

    owner: Owner
    state: str = ""


class Entry(NamedTuple):
    """One line of the legend."""

    owner: Owner
    mark: str
    hue: int | None
    """0..`HUES` - 1 for a guest or a device, None for what needs no color of its own."""
    text: str
    """The owner in words, fit for one line; no two entries have the same."""
    queues: int
    states: tuple[tuple[str, int], ...]
    """How many of its queues are in which state; those of which there is nothing to say do not count."""

    @property
    def counted(self) -> str:
        """``6 queues, 4 in use``."""
        states = [f"{'all' if n == self.queues > 1 else n} {state}" for state, n in self.states]
        return ", ".join([count_queues(self.queues), *states])


class Picture(NamedTuple):
    """A host's matrix. There is a row for each adapter, a column for each domain that has a queue."""

    types: Mapping[int, str]
    """The rows: the adapters, ascending, and what card each is; '' where the kernel does not tell."""
    domains: tuple[int, ...]
    cells: Mapping[Apqn, Cell]
    legend: Mapping[Owner, Entry]
    """In the order in which to show it."""
    lost: str
    """A sentence on the queues that the policy reserves and the host has not, '' if there are none."""

    @property
    def mark_width(self) -> int:
        """How many characters the longest mark has: 1 as long as the letters last."""
        return max((len(entry.mark) for entry in self.legend.values()), default=1)

    def as_json(self) -> dict[str, object]:
        """Return the picture as ``status --json`` prints it, for programs that draw it themselves."""
        return {
            "adapters": [
                {"adapter": f"{adapter:02x}", "type": card or None} for adapter, card in self.types.items()
            ],
            "domains": [f"{domain:04x}" for domain in self.domains],
            "marks": {str(queue): self.legend[cell.owner].mark for queue, cell in self.cells.items()},
            "legend": [
                {"mark": entry.mark, "hue": entry.hue, "text": entry.text, "counted": entry.counted}
                for entry in self.legend.values()
            ],
            "lost": self.lost or None,
        }


def picture(
    found: Mapping[Apqn, Owner], reserves: Callable[[Apqn], bool], seen: QueueStates = NO_STATES
) -> Picture:
    """Return the picture of the queues ``found``. ``reserves`` says which ones the policy reserves."""
    cells = {
        queue: Cell(RESERVED if owner == HOST and reserves(queue) else owner, seen.states.get(queue, ""))
        for queue, owner in sorted(found.items())
    }
    lost = [queue for queue, owner in found.items() if owner != HOST and reserves(queue)]
    return Picture(
        types={
            adapter: printable(seen.types.get(adapter, ""), _TYPE_LIMIT)
            for adapter in sorted({queue.adapter for queue in cells})
        },
        domains=tuple(sorted({queue.domain for queue in cells})),
        cells=cells,
        legend=_legend(cells),
        lost=f"reserved by policy, but not with the host: {some_queues(lost)}" if lost else "",
    )


def _legend(cells: Mapping[Apqn, Cell]) -> dict[Owner, Entry]:
    queues = Counter(cell.owner for cell in cells.values())
    states = Counter(cells.values())
    marks, texts = _marks(queues), _texts(queues)
    colored = [owner for owner in marks if owner not in COMMON]
    return {
        owner: Entry(
            owner=owner,
            mark=marks[owner],
            hue=colored.index(owner) % HUES if owner in colored else None,
            text=texts[owner],
            queues=queues[owner],
            states=tuple((s, states[Cell(owner, s)]) for s in STATES if states[Cell(owner, s)]),
        )
        for owner in sorted(queues, key=_order)
    }


def _order(owner: Owner) -> tuple[int, Owner]:
    return ((GUEST, MDEV, FREE.kind, HOST.kind, RESERVED.kind, UNBOUND.kind).index(owner.kind), owner)


def _marks(shown: Iterable[Owner]) -> dict[Owner, str]:
    """A mark for each owner, guests in the order of their names; of several letters where one is too few."""
    marks = {owner: mark for owner, mark in COMMON.items() if owner in shown}
    for kind, letters in ((GUEST, _LETTERS), (MDEV, _DIGITS)):
        owners = sorted(owner for owner in shown if owner.kind == kind)
        length = next(n for n in range(1, len(owners) + 2) if len(letters) ** n >= len(owners))
        marks |= dict(zip(owners, map("".join, product(letters, repeat=length))))
    return marks


def _texts(shown: Iterable[Owner]) -> dict[Owner, str]:
    """What the legend calls each; where two would read the same, with the device of each."""
    # Columns are two blanks apart: a name that holds some cannot pass for a column.
    texts = {owner: " ".join(printable(str(owner), _NAME_LIMIT).split()) for owner in shown}
    same = Counter(texts.values())
    return {
        owner: f"{text}, mdev {owner.mdev}" if owner.mdev and same[text] > 1 else text
        for owner, text in texts.items()
    }

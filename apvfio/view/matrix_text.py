# SPDX-License-Identifier: Apache-2.0
"""The matrix of a host as a picture in a terminal: adapters down, domains across, one mark for each owner.

Ids are written as lszcrypt writes them. Ids of ten and more look different in chzdev's lists, so that their
decimal form stands beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.matrix import Apqn
from apvfio.model.owners import FREE, HOST, UNBOUND
from apvfio.model.queue_states import IN_USE, STATES
from apvfio.model.text import decimal, some_queues
from apvfio.view.columns import columns, cut, fold, padded
from apvfio.view.picture import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apvfio.model.owners import Owner
    from apvfio.view.picture import Entry, Picture

_ASCII = {HOST: ".", RESERVED: "#", FREE: "o", UNBOUND: "?"}
_MARGIN = len("adapter  ")
_GROUP = 8
_STYLES = {HOST: "2", RESERVED: "1", FREE: "32", UNBOUND: "31"}
_HUES = ("36", "35", "33", "34", "1;36", "1;35", "1;33", "1;34")
_SHORTEST_NAME = 12


class Look(NamedTuple):
    """How to draw: what the terminal can show, and how much of it."""

    width: int = 80
    utf8: bool = True
    color: bool = False
    folds: bool = False
    """Whether what is longer than ``width`` goes on in another line; what no terminal shows is left whole."""


def matrix(drawn: Picture, look: Look) -> Iterator[str]:
    """The lines of the picture and of its legend."""
    if not drawn.cells:
        yield "no queues"
        return
    marks = {owner: _mark(entry, look) for owner, entry in drawn.legend.items()}
    wide = _MARGIN + 5 * len(drawn.domains) <= look.width and drawn.mark_width < 4
    yield from (_wide if wide else _narrow)(drawn, marks, look)
    yield ""
    yield from _legend(drawn, marks, look)
    for note in _notes(drawn):
        yield from fold(f"  !  {note}", look.width if look.folds else None)


def _notes(drawn: Picture) -> Iterator[str]:
    """What the marks do not show: queues that cannot be used, and those that are where they must not be."""
    for state in STATES:
        queues = [queue for queue, cell in drawn.cells.items() if cell.state == state != IN_USE]
        if queues:
            yield f"{state}: {some_queues(queues)}"
    if drawn.lost:
        yield drawn.lost


def _mark(entry: Entry, look: Look) -> str:
    return entry.mark if look.utf8 else _ASCII.get(entry.owner, entry.mark)


def _styled(entry: Entry, mark: str, look: Look) -> str:
    if not look.color:
        return mark
    style = _STYLES[entry.owner] if entry.hue is None else _HUES[entry.hue]
    return f"\x1b[{style}m{mark}\x1b[0m"


def _wide(drawn: Picture, marks: Mapping[Owner, str], look: Look) -> Iterator[str]:
    yield "adapter  " + " ".join(f"{domain:04x}" for domain in drawn.domains)
    decimals = " ".join(f"{decimal(domain):<4}" for domain in drawn.domains).rstrip()
    if decimals:
        yield " " * _MARGIN + decimals
    for adapter in drawn.types:
        cells = [f" {_cell(drawn, marks, look, Apqn(adapter, domain), 3)}" for domain in drawn.domains]
        yield f"{_name(adapter)}{' '.join(cells)}".rstrip()


def _narrow(drawn: Picture, marks: Mapping[Owner, str], look: Look) -> Iterator[str]:
    """With a blank after every eighth column, in as many blocks as it takes."""
    # Marks of several letters would run together.
    wide = drawn.mark_width + 1 if drawn.mark_width > 1 else 1
    room = max(wide, look.width - _MARGIN)
    groups = (room + 1) // (_GROUP * wide + 1)
    size = groups * _GROUP or room // wide
    for start in range(0, len(drawn.domains), size):
        domains = drawn.domains[start : start + size]
        if start:
            yield ""
        # A domain's name is read downwards.
        names = [f"{domain:04x}" for domain in domains]
        for i in range(4):
            line = _grouped([name[i].ljust(wide) for name in names])
            yield (("adapter" if i == 3 else "").ljust(_MARGIN) + line).rstrip()
        for adapter in drawn.types:
            cells = [_cell(drawn, marks, look, Apqn(adapter, domain), wide) for domain in domains]
            yield f"{_name(adapter)}{_grouped(cells)}".rstrip()


def _cell(drawn: Picture, marks: Mapping[Owner, str], look: Look, queue: Apqn, width: int) -> str:
    cell = drawn.cells.get(queue)
    if cell is None:
        return " " * width
    mark = marks[cell.owner]
    return _styled(drawn.legend[cell.owner], mark, look) + " " * (width - len(mark))


def _name(adapter: int) -> str:
    return f"  {adapter:02x} {decimal(adapter):>3} "


def _grouped(texts: list[str]) -> str:
    return " ".join("".join(texts[start : start + _GROUP]) for start in range(0, len(texts), _GROUP))


def _legend(drawn: Picture, marks: Mapping[Owner, str], look: Look) -> Iterator[str]:
    counts = max(len(entry.counted) for entry in drawn.legend.values())
    before = drawn.mark_width + 4
    limit = max(_SHORTEST_NAME, look.width - before - 2 - counts) if look.folds else None
    texts = {owner: cut(entry.text, limit) for owner, entry in drawn.legend.items()}
    if len(set(texts.values())) < len(texts):
        texts = {owner: entry.text for owner, entry in drawn.legend.items()}
    width = max(map(columns, texts.values()))
    for owner, entry in drawn.legend.items():
        mark = marks[owner]
        line = f"  {mark:<{drawn.mark_width}}  {padded(texts[owner], width)}  {entry.counted}"
        first, *rest = fold(line, look.width if look.folds else None, before)
        yield f"{first[:2]}{_styled(entry, mark, look)}{first[2 + len(mark) :]}"
        yield from rest

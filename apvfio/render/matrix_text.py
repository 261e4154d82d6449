# SPDX-License-Identifier: Apache-2.0
"""The matrix of a host as a picture in a terminal: adapters down, domains across, one mark for each owner."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.errors import printable
from apvfio.matrix import Apqn
from apvfio.owners import FREE, GUEST, HOST, MDEV, UNBOUND, Owner
from apvfio.wording import count_queues, some_queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RESERVED = Owner("host, reserved by policy")
"""A queue of the host that no guest may have. The others' marks do not change if they have one."""

_COMMON_ASCII = {HOST: ".", RESERVED: "#", FREE: "o", UNBOUND: "?"}
_COMMON = {HOST: "·", RESERVED: "■", FREE: "○", UNBOUND: "?"}
# Without o, which looks like a free queue.
_GUEST_MARKS = "abcdefghijklmnpqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ"
_MDEV_MARKS = "123456789"
_ONE_OF_MANY = "*"
_NAME_LIMIT = 48

_MARGIN = len("adapter  ")
_GROUP = 8
_STYLES = {HOST: "2", RESERVED: "1", FREE: "32", UNBOUND: "31"}
_OTHERS_STYLES = ("36", "35", "33", "34", "1;36", "1;35", "1;33", "1;34")


class Look(NamedTuple):
    """How to draw: what the terminal is able to show, and how much of it."""

    width: int = 80
    utf8: bool = True
    color: bool = False


def picture(found: Mapping[Apqn, Owner], reserves: Callable[[Apqn], bool], look: Look) -> Iterator[str]:
    """The lines of the picture and of its legend. ``reserves`` tells the queues the policy reserves."""
    if not found:
        yield "no queues"
        return
    cells = {
        queue: RESERVED if owner == HOST and reserves(queue) else owner for queue, owner in found.items()
    }
    marks = _marks(set(cells.values()), look)
    drawn = {queue: marks[owner] for queue, owner in cells.items()}
    domains = sorted({queue.domain for queue in found})
    wide = _MARGIN + 5 * len(domains) <= look.width
    for number, block in enumerate([domains] if wide else _blocks(domains, look.width)):
        if number:
            yield ""
        yield from _block(drawn, block, wide=wide)
    yield ""
    yield from _legend(cells, marks)
    yield from _lost_reserves(found, reserves)


def _marks(shown: set[Owner], look: Look) -> dict[Owner, str]:
    """A mark for each owner, guests in the order of their names."""
    marks = {
        owner: mark for owner, mark in (_COMMON if look.utf8 else _COMMON_ASCII).items() if owner in shown
    }
    for kind, letters in ((GUEST, _GUEST_MARKS), (MDEV, _MDEV_MARKS)):
        for number, owner in enumerate(sorted(owner for owner in shown if owner.kind == kind)):
            marks[owner] = letters[number] if number < len(letters) else _ONE_OF_MANY
    if not look.color:
        return marks
    styles = dict(_STYLES)
    for number, owner in enumerate(owner for owner in marks if owner not in _STYLES):
        styles[owner] = _OTHERS_STYLES[number % len(_OTHERS_STYLES)]
    return {owner: f"\x1b[{styles[owner]}m{mark}\x1b[0m" for owner, mark in marks.items()}


def _blocks(domains: list[int], width: int) -> list[list[int]]:
    """The domains in portions that fit ``width`` with one character each and a blank after every eighth."""
    groups = max(1, (width - _MARGIN + 1) // (_GROUP + 1))
    size = groups * _GROUP
    return [domains[start : start + size] for start in range(0, len(domains), size)]


def _block(drawn: Mapping[Apqn, str], domains: list[int], *, wide: bool) -> Iterator[str]:
    names = [f"{domain:04x}" for domain in domains]
    if wide:
        yield "adapter  " + " ".join(names)
    else:
        # A domain's name is read downwards.
        yield from (" " * _MARGIN + _grouped([name[i] for name in names]) for i in range(3))
        yield "adapter  " + _grouped([name[3] for name in names])
    rows = sorted({queue.adapter for queue in drawn})
    for adapter in rows:
        marks = [drawn.get(Apqn(adapter, domain), " ") for domain in domains]
        line = " ".join(f" {mark}  " for mark in marks) if wide else _grouped(marks)
        yield f"  {adapter:02x}     {line}".rstrip()


def _grouped(characters: list[str]) -> str:
    starts = range(0, len(characters), _GROUP)
    return " ".join("".join(characters[start : start + _GROUP]) for start in starts)


def _legend(cells: Mapping[Apqn, Owner], marks: Mapping[Owner, str]) -> Iterator[str]:
    texts = {owner: printable(str(owner), _NAME_LIMIT) for owner in marks}
    width = max(map(len, texts.values()))
    for owner in sorted(marks, key=_legend_order):
        n = sum(cell == owner for cell in cells.values())
        yield f"  {marks[owner]}  {texts[owner]:<{width}}  {count_queues(n)}"


def _legend_order(owner: Owner) -> tuple[int, Owner]:
    return ((GUEST, MDEV, FREE.kind, HOST.kind, RESERVED.kind, UNBOUND.kind).index(owner.kind), owner)


def _lost_reserves(found: Mapping[Apqn, Owner], reserves: Callable[[Apqn], bool]) -> Iterator[str]:
    lost = [queue for queue, owner in found.items() if owner != HOST and reserves(queue)]
    if lost:
        yield f"  !  reserved by policy, but not with the host: {some_queues(lost)}"

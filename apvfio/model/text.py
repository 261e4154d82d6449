# SPDX-License-Identifier: Apache-2.0
"""Queues and mask bits as words of a sentence."""

from __future__ import annotations

from apvfio.model.ids import format_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from typing_extensions import TypeAlias

    from apvfio.model.ids import IdSet
    from apvfio.model.matrix import Apqn

    WarningText: TypeAlias = str
    """What a command that goes on warns of; a function that makes warnings says so by its return type."""

_SHOWN = 8
_NAMED = 2
_TEN = 10


def some_queues(queues: Collection[Apqn], shown: int = _SHOWN) -> str:
    """The first few queues by name, then how many more: a host may have 1,360 of them."""
    names = [str(queue) for queue in sorted(queues)]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def count_queues(n: int, kind: str = "") -> str:
    """Return ``1 queue``, ``2 queues``, or with a ``kind`` ``2 collateral queues``."""
    return f"{n} {kind}{' ' if kind else ''}queue{'' if n == 1 else 's'}"


def decimal(number: int) -> str:
    """An id in decimal if its hexadecimal digits read otherwise: ``10`` for 0a, '' for 09."""
    return str(number) if number >= _TEN else ""


def resetting(queues: Collection[Apqn]) -> str:
    """What one waits for while the kernel moves ``queues``: each is reset, one after the other."""
    if not queues:
        return ""
    return f"waiting for {count_queues(len(queues))} to finish the reset: {some_queues(queues, _NAMED)}"


def mask_bits(mask: str, ids: IdSet) -> str:
    """``apmask 0,10 (00, 0a)``: chzdev's notation, and the ids as lszcrypt prints them."""
    digits = 2 if mask == "apmask" else 4
    first = [f"{i:0{digits}x}" for i in ids][:_SHOWN]
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{mask} {format_list(ids)} ({', '.join(first)}{more})"

# SPDX-License-Identifier: Apache-2.0
"""What choosing queues by their properties needs to know of a host: its cards and their master keys."""

from __future__ import annotations

from apvfio.model.matrix import Apqn
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Card(NamedTuple):
    """One adapter."""

    mode: str
    """``accel``, ``cca`` or ``ep11``; '' if it is none of them."""
    generation: int
    """8 for a CEX8S; 0 if the kernel does not tell."""
    fault: str = ""
    """Why it does not work, ``deconfigured`` or ``check-stopped``; '' if it does."""


class CardFacts(NamedTuple):
    """The facts about cards and queues that criteria are compared with."""

    cards: Mapping[int, Card]
    mkvps: Mapping[Apqn, tuple[str, ...]] = {}
    """The patterns of the valid current master keys, lower case; a queue never seen with the host lacks."""

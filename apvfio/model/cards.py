# SPDX-License-Identifier: Apache-2.0
"""The cards of a host and their master keys, for requests by criteria."""

from __future__ import annotations

from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn


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
    keys: Mapping[Apqn, SeenKeys] = {}
    """The master keys, read now or remembered; a queue whose keys were never read lacks."""

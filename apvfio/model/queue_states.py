# SPDX-License-Identifier: Apache-2.0
"""The states of cards and queues, for display."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.model.matrix import Apqn

IN_USE = "in use"
"""A running guest has it attached."""
OFFLINE = "offline"
"""It is the host's, whose administrator has set it offline."""
DECONFIGURED = "deconfigured"
CHECKSTOPPED = "check-stopped"
STATES = (IN_USE, OFFLINE, DECONFIGURED, CHECKSTOPPED)


class QueueStates(NamedTuple):
    """The types of the cards by their adapters (``CEX8P``), and the queues of which there is more to say."""

    types: Mapping[int, str] = {}
    states: Mapping[Apqn, str] = {}
    """One of `STATES`; a queue of which there is nothing to say lacks."""


NO_STATES = QueueStates()

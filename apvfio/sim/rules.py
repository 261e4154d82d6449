# SPDX-License-Identifier: Apache-2.0
"""A state and the rules that work on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.sim.bus import Bus
from apvfio.sim.profile import profile_named
from apvfio.sim.vfio import VfioAp

if TYPE_CHECKING:
    from apvfio.sim.state import State


class Rules:
    """The parts of a kernel, over one state."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.profile = profile_named(state.profile)
        self.vfio = VfioAp(state, self.profile)
        self.bus = Bus(state, self.profile, self.vfio)

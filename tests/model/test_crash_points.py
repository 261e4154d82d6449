# SPDX-License-Identifier: Apache-2.0
"""Every verb, failing or dying at every write, on every kind of host: nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.crashes import fewer
from model.figures import TOLD
from model.recovery import explore, pairs

if TYPE_CHECKING:
    from model.befores import Cell
    from model.verbs import Verb


@pytest.mark.parametrize(("verb", "cell"), [pytest.param(v, c, id=f"{v.name}-{c}") for v, c in pairs()])
def test_one_reconcile_recovers_from_a_fault_at_any_write(verb: Verb, cell: Cell) -> None:
    tried, lost = explore(verb, cell, fewer)
    assert tried
    assert not lost
    TOLD.crash_points.add(verb.name, str(cell), tried)

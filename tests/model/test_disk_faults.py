# SPDX-License-Identifier: Apache-2.0
"""Every verb, failing or dying at every operation on a file: one sentence, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.disk_faults import cases, explore, some
from model.figures import TOLD

if TYPE_CHECKING:
    from model.befores import Cell
    from model.verbs import Verb


@pytest.mark.parametrize(("verb", "cell"), [pytest.param(v, c, id=f"{v.name}-{c}") for v, c in cases()])
def test_one_reconcile_recovers_from_a_fault_at_any_file_operation(verb: Verb, cell: Cell) -> None:
    tried, lost = explore(verb, cell, some)
    assert tried
    assert not lost
    TOLD.file_faults.add(verb.name, cell.mode, tried)

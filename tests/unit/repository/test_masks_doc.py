# SPDX-License-Identifier: Apache-2.0
"""What docs/masks.md says of specifications is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit, RequestError
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_mask_spec
from mask_tables import BEFORE, CHANGES, DIFFERENCES, ERRORS, EXITS
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("text", "after"), CHANGES.items())
def test_what_a_specification_does(text: str, after: IdSet) -> None:
    assert parse_mask_spec(text).apply(BEFORE) == after


@pytest.mark.parametrize("text", [*ERRORS, *(text for _, text, _ in DIFFERENCES), "", "1" + "0" * 5000])
def test_what_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_mask_spec(text, "apmask")
    assert str(caught.value).startswith("apmask is ")


@pytest.mark.parametrize(("words", "_", "ours"), EXITS)
def test_our_exit_codes(tmp_path: Path, words: list[str], _: int, ours: int) -> None:
    host = SimulatedHost(tmp_path)
    assert host.run("masks", "-p", "apmask=-7") == Exit.OK
    assert host.run("masks", *words) == ours

# SPDX-License-Identifier: Apache-2.0
"""Criteria for tests."""

from __future__ import annotations

from apvfio.model.criteria import CardCriteria, Criteria
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.master_keys import MasterKey


def a_criteria(
    mode: str,
    adapters: int = 1,
    domains: int = 1,
    min_generation: int = 0,
    mkvp: str = "",
    control_domains: IdSet = NO_IDS,
) -> Criteria:
    """Criteria for adapters of one kind."""
    keys = (MasterKey("", mkvp),) if mkvp else ()
    return Criteria((CardCriteria(mode, adapters, min_generation, "", keys),), domains, control_domains)

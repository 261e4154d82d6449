# SPDX-License-Identifier: Apache-2.0
"""The benchmark of ``virsh start``."""

from __future__ import annotations

from benchmark_run import rows_of


def test_starts_are_measured() -> None:
    assert len(rows_of(6)) == 2

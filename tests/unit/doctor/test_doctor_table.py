# SPDX-License-Identifier: Apache-2.0
"""The doctor's verdicts beside starts: a problem is where a guest does not start, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apvfio.sim.kernel import SimKernel
from doctor_env import faults, patient
from doctor_table import TABLE, Row
from guest_starts import REFUSED, STARTS, WITHOUT, Trial
from skipped_waits import skip_waits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT_LEAST = 60


@pytest.fixture
def host(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Trial]:
    skip_waits(monkeypatch)
    row: Row = request.getfixturevalue("row")
    arguments: dict[str, Any] = dict(row.kernel)
    with patient(tmp_path, capsys, SimKernel.new(**arguments), kind=Trial) as made:
        for verb, *words in row.steps:
            getattr(made, str(verb))(*words)
        yield made


@pytest.mark.parametrize("row", TABLE, ids=[row.title for row in TABLE])
def test_the_verdict_is_what_becomes_of_the_start(host: Trial, row: Row) -> None:
    assert host.tried(row.guest) == row.outcome
    code, checks = host.examined(row.guest)
    found = faults(checks)
    assert (code != 0) is (row.outcome != STARTS) or row.whole, found
    assert [check["id"] for check in found][:1] == [row.check] * bool(row.check), found
    clear = "nothing keeps guest" in host.text(row.guest)
    assert clear is (not code and not any(check["id"] == "start" for check in found))
    # A guest that waits for another to stop is no fault of the host.
    refused = [name for name in host.definitions() if host.tried(name, alone=True) != STARTS]
    code, whole = host.examined()
    assert (code != 0) is (bool(refused) if row.whole is None else row.whole), faults(whole)
    for told in (checks, whole):
        sentences = [(check["guest"], check["message"]) for check in faults(told)]
        assert len(sentences) == len(set(sentences))


def test_the_table_has_all_kinds_of_hosts() -> None:
    assert len(TABLE) >= AT_LEAST
    assert len({row.title for row in TABLE}) == len(TABLE)
    assert {row.outcome for row in TABLE} == {STARTS, REFUSED, WITHOUT}

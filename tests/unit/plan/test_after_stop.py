# SPDX-License-Identifier: Apache-2.0
"""The plan of a guest that runs is that of its next start: what it would be had the guest stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.preview import preview_start
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError
from apvfio.model.host import MASKS, OVERRIDES
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Matrix
from apvfio.plan.steps import after_stop
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import load, save
from hosts import a_matrix, a_request, guest, mdev
from lab.guest import guest_uuid, guest_xml
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

    from apvfio.model.request import Request

some = st.frozensets(st.sampled_from([0, 1, 10]), min_size=1).map(IdSet)
domains = st.frozensets(st.sampled_from([1, 2, 4, 27]), min_size=1).map(IdSet)
matrices = st.builds(Matrix, some, domains, st.just(NO_IDS))


def request(n: int, matrix: Matrix) -> Request:
    return a_request("0", "1", n)._replace(matrix=matrix)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([("6.1", MASKS), ("6.12", MASKS), ("7.2", MASKS), ("7.2", OVERRIDES)]),
    st.lists(matrices, min_size=1, max_size=4),
    matrices,
    st.sampled_from(["", "-1", "-0,-10"]),
    st.booleans(),
)
def test_it_is_what_the_plan_is_once_the_guest_has_stopped(
    kernel: tuple[str, str], held: list[Matrix], wanted: Matrix, cleared: str, foreign: bool
) -> None:
    system = SimSystem.new(SimKernel.new(kernel[0]))
    if kernel[1] == OVERRIDES:
        switch_mechanism(system, OVERRIDES)
    elif cleared:
        system.sysfs.write("bus/ap/apmask", cleared)
    for n, matrix in enumerate(held, 1):
        try:
            start_guest(system, request(n, matrix))
        except ApvfioError:
            continue
    if foreign:
        try:
            start_guest(system, request(9, a_matrix("1", "27")))
        except ApvfioError:
            pass
        else:  # a device that nobody leases
            text = load(system.files, system.boot_id)
            save(system.files, text.without_leases(mdev(9)))
    ledger, host = load(system.files, system.boot_id), read_host(system.sysfs)
    if not ledger.of_guest(guest(1)):
        return
    foreseen = planned(system, request(1, wanted))
    expected = after_stop(ledger, host, guest(1))
    release_guest(system, guest(1))
    after = load(system.files, system.boot_id), read_host(system.sysfs)
    assert (expected[0].leases, expected[0].pending, expected[0].overrides) == (
        after[0].leases,
        after[0].pending,
        after[0].overrides,
    )
    assert expected[1] == after[1]
    now = planned(system, request(1, wanted))
    assert (foreseen.pop("running", None), now.pop("running", None)) in ((True, False), (None, None))
    assert {**foreseen, "keeps": []} == {**now, "keeps": []}


def planned(system: SimSystem, asked: Request) -> dict[str, Any]:
    """The plan, or why there is none."""
    try:
        return preview_start(system, asked).as_json()
    except ApvfioError as error:
        return error.as_json()


def test_what_is_told_of_a_guest_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    xml = tmp_path / "db1.xml"
    xml.write_text(guest_xml("db1", a_matrix("0", "1-2"), mdev(1)).replace(guest_uuid("db1"), guest(1)))
    words = ("plan", "--xml", str(xml))
    host.run(*words, "--json")
    before = json.loads(capsys.readouterr().out)
    assert (before["running"], before["keeps"]) == (False, [])
    host.start(a_request("0", "1-2")._replace(guest="db1"))
    host.run(*words, "--json")
    running = json.loads(capsys.readouterr().out)
    assert running == {**before, "running": True, "keeps": ["00.0001", "00.0002"]}
    host.run(*words)
    out = capsys.readouterr().out
    assert (
        "now          it runs and keeps adapters 0, domains 1-2 until it stops; this is the plan of its"
        in out
    )
    assert "remove" not in out

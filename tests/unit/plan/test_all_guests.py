# SPDX-License-Identifier: Apache-2.0
"""``plan --all``: who can run together, the least cost, and that every order of starts ends there."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from apvfio.cli.main import main
from apvfio.cli.plan import all_guests_text
from apvfio.engine.start import start_guest
from apvfio.engine.state import look
from apvfio.model.errors import ApvfioError, Exit
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.matrix import Matrix
from apvfio.model.policy import Policy
from apvfio.model.request import Request
from apvfio.plan.all_guests import plan_all_guests
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from domain_xml import MDEV, domain
from hosts import IBM_ADAPTERS, IBM_DOMAINS, NO_LEASES, a_host, a_request, guest, mdev
from memory_host import IBM_ADAPTERS as MODES
from memory_host import Machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def some_of(ids: IdSet) -> st.SearchStrategy[IdSet]:
    return st.sets(st.sampled_from(list(ids)), min_size=1, max_size=2).map(IdSet)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(Matrix, some_of(IBM_ADAPTERS), some_of(IBM_DOMAINS), st.just(NO_IDS)),
        min_size=1,
        max_size=3,
    )
)
def test_with_free_by_every_order_of_starts_costs_the_least(matrices: list[Matrix]) -> None:
    requests: list[Request] = []
    for n, matrix in enumerate(matrices):
        if all(matrix.overlap(other.matrix).empty for other in requests):
            requests.append(Request(f"g{n}", guest(n), mdev(n), matrix))
    found = plan_all_guests(requests, a_host(), NO_LEASES, Policy())
    assert found.joint_plan is not None
    for order in itertools.permutations(requests):
        machine = Machine()
        for request in order:
            start_guest(machine, request._replace(free_by=found.freed_by_guest[request.guest_uuid]))
        asked = {queue for request in requests for queue in request.matrix.queues()}
        lost = {queue for queue, driver in machine.host.drivers.items() if driver == "vfio_ap"} - asked
        assert lost == set(found.joint_plan.collateral)


def test_conflicts_and_guests_that_cannot_start_at_all() -> None:
    requests = [
        a_request("0", "1-2", 1),
        a_request("0-1", "2", 2),
        a_request("7", "1", 3),
        a_request("10", "4", 4),
    ]
    requests[3] = requests[3]._replace(mdev=mdev(1))
    found = plan_all_guests(requests, a_host(), NO_LEASES, Policy())
    assert [request.guest for request in found.guests] == ["g1", "g2", "g4"]
    assert [error.guest for error in found.errors] == ["g3"]
    assert [(one, other, len(queues)) for one, other, queues in found.conflicts] == [
        ("g1", "g2", 1),
        ("g1", "g4", 0),
    ]


def test_a_guest_that_runs_keeps_its_way() -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1", 1)._replace(free_by="adapters"))
    found = plan_all_guests([a_request("0", "1", 1)], *look(machine))
    assert found.freed_by_guest == {guest(1): "adapters"}
    assert plan_all_guests([a_request("0", "1", 1)], a_host(), NO_LEASES, Policy()).freed_by_guest == {
        guest(1): "domains"
    }


def test_nothing_is_lost_with_overrides() -> None:
    found = plan_all_guests([a_request("0", "1", 1)], a_host(), NO_LEASES, Policy(mechanism="overrides"))
    assert (found.freed_by_guest, found.prefer) == ({}, "")
    assert found.joint_plan is not None
    assert found.joint_plan.collateral == ()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = str(tmp_path / "host.json")
    create_sim(sim, SimKernel.new(adapters=MODES, domains=IBM_DOMAINS))
    words = ["--sim", sim, "plan", "--all"]
    matrices = (
        'adapters="0" domains="1"',
        'adapters="0" domains="2"',
        'adapters="0" domains="4"',
        'adapters="9" domains="1"',
    )
    for n, requested in enumerate(matrices):
        path = tmp_path / f"{n}.xml"
        xml = domain(f"<ap:matrix {requested}/>", name=f"g{n}", uuid=guest(n))
        path.write_bytes(xml.replace(MDEV.encode(), mdev(n).encode()))
        words += ["--xml", str(path)]
    (tmp_path / "bad.xml").write_bytes(domain("", name="bad"))
    words += ["--xml", str(tmp_path / "bad.xml")]
    assert main(words) == Exit.OK
    out = capsys.readouterr().out
    assert "cannot start: guest bad: the annotation has no <matrix>." in out
    assert "cannot start: guest g3: this host has no adapter 9" in out
    assert 'g0: adapters 0, domains 1; free-by="adapters"' in out
    assert "all of them can run together" in out
    assert "the host loses 1 collateral queue: 00.001b; no combination of options loses fewer" in out
    assert 'prefer = "adapters"' in out
    assert main([*words, "--json"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert (document["collateral"], document["prefer"], document["possible"]) == (
        ["00.001b"],
        "adapters",
        True,
    )
    assert [error["guest"] for error in document["errors"]] == ["bad", "g3"]
    assert main(["--sim", sim, "plan", "g0", "--all"]) == Exit.USAGE


def test_errors_are_told_not_raised() -> None:
    found = plan_all_guests([a_request("0", "9", 1)], a_host(), NO_LEASES, Policy())
    assert found.guests == ()
    assert isinstance(found.errors[0], ApvfioError)


def test_what_is_not_proven_is_not_called_the_least() -> None:
    requests = [a_request(a, d, n) for n, (a, d) in enumerate([("0", "1"), ("0", "2"), ("1", "4")])]
    found = plan_all_guests(requests, a_host(), NO_LEASES, Policy())
    assert found.joint_plan
    assert any(line.endswith("; no combination of options loses fewer") for line in all_guests_text(found))
    doubtful = found._replace(joint_plan=found.joint_plan._replace(least=1))
    (line,) = (line for line in all_guests_text(doubtful) if "the host loses" in line)
    assert "no combination of options loses fewer than 1; there are too many guests to try all" in line


def test_guests_that_ask_for_whole_adapters_cost_nothing_more() -> None:
    found = plan_all_guests([a_request("0", "1,2,4,27", 1)], a_host(), NO_LEASES, Policy())
    assert "the host loses no collateral queue" in list(all_guests_text(found))

# SPDX-License-Identifier: Apache-2.0
"""The outlook is what Pacemaker's own scheduler decides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.cluster.outlook import outlook
from apvfio.cluster.priorities import priorities
from apvfio.cluster.resource import Resource
from apvfio.domain.xml_tree import etree
from apvfio.model.errors import Exit
from json_schema import require
from pacemaker_env import a_cib, require_program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _scheduler() -> None:
    require_program("crm_simulate")


def guest(name: str, queues: int) -> Resource:
    return Resource(name, f"/{name}.xml", migratable=True, utilization={"ap-ep11": queues})


ALL = ("db1", "db2", "db3")


def cluster() -> etree._Element:
    """db3 has a place as long as all three nodes are up."""
    nodes = {"n1": ({"ap-ep11": 4}, ALL), "n2": ({"ap-ep11": 4}, ("db1", "db2")), "n3": ({"ap-ep11": 2}, ())}
    guests = [guest("db1", 2), guest("db2", 2), guest("db3", 3)]
    return a_cib(nodes, guests, meta={"db3": {"priority": "1"}})


def test_guests_run_where_their_queues_are() -> None:
    found = outlook(cluster())
    assert found.now.nodes == {"db1": "n2", "db2": "n2", "db3": "n1"}
    n1, n2, n3 = found.failures
    assert (n1.node, n1.lost, n1.moved) == ("n1", ["db3"], {})
    assert (n2.node, n2.lost, n2.moved) == ("n2", ["db1", "db2"], {})
    assert (n3.node, n3.lost, n3.moved) == ("n3", [], {})


def test_a_host_without_the_attribute_gets_no_guest() -> None:
    cib = cluster()
    for pair in cib.iterfind("status/node_state[@uname='n1']//nvpair"):
        pair.set("value", "0")
    assert outlook(cib).now.stopped == ["db3"]


def test_the_command_reads_the_cib_that_pacemaker_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cib.xml"
    file.write_bytes(etree.tostring(cluster()))
    monkeypatch.setenv("CIB_file", str(file))
    assert main(["cluster", "outlook", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    require("outlook", found)
    assert found["failures"][0]["lost"] == ["db3"]
    assert main(["cluster", "outlook"]) == Exit.OK
    assert "If node n1 fails\n  db3  stops" in capsys.readouterr().out


def test_who_has_the_least_choice_is_placed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = {"n1": ({"ap-ep11": 4}, ALL), "n2": ({"ap-ep11": 4}, ("db1", "db2")), "n3": ({"ap-ep11": 2}, ())}
    guests = [guest("db1", 2), guest("db2", 1), guest("db3", 3)]
    cib = a_cib(nodes, guests)
    assert outlook(cib).now.stopped == ["db3"]
    found = priorities(cib)
    assert found["db3"] > found["db2"] > found["db1"]
    cib = a_cib(nodes, guests, meta={name: {"priority": str(rank)} for name, rank in found.items()})
    assert outlook(cib).now.stopped == []
    file = tmp_path / "cib.xml"
    file.write_bytes(etree.tostring(cib))
    monkeypatch.setenv("CIB_file", str(file))
    assert main(["cluster", "priorities", "--json"]) == Exit.OK
    shown = json.loads(capsys.readouterr().out)
    require("priorities", shown)
    assert shown == found
    assert main(["cluster", "priorities"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"--resource db1 --parameter-value {found['db1']}")


def test_without_a_cluster_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIB_file", str(tmp_path / "none.xml"))
    assert main(["cluster", "outlook"]) == Exit.FAILURE
    assert "cibadmin failed with exit code" in capsys.readouterr().err

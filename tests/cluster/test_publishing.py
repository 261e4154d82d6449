# SPDX-License-Identifier: Apache-2.0
"""The agent Queues in a real cluster of one node: what it publishes, and when it writes nothing."""

from __future__ import annotations

import json
import sys
import time

from apvfio._version import __version__
from apvfio.cluster.guest_files import digest_of, read_guest_files
from cluster.node import Node, node
from cluster.one_node import NAME
from json_schema import require
from memory_host import Machine
from pacemaker_env import require_program

_QUIET = 12.0
"""Seconds in which there are two looks or more."""
_QUEUES = """\
<primitive id="queues" class="ocf" provider="apvfio" type="Queues">
  <instance_attributes id="queues-parameters">
    <nvpair id="queues-guests" name="guests" value="{guests}"/>
    <nvpair id="queues-apvfio" name="apvfio" value="{apvfio}"/>
  </instance_attributes>
  <operations><op id="queues-monitor" name="monitor" interval="3s" timeout="30s"/></operations>
</primitive>"""


__all__ = ["node"]


def test_publish_writes_what_has_changed_only(node: Node) -> None:
    words = [str(node.apvfio), "cluster", "publish", "--guests", str(node.guests), "--json"]
    first = json.loads(node.run(*words))
    require("publication", first)
    assert first["node"] == NAME
    assert {change["name"]: change["after"] for change in first["changes"]} == {
        **dict.fromkeys(("ap-accel", "ap-cca", "ap-ep11"), "4"),
        "ap-ep11-1x2": "2",
        "apvfio-db1": "1",
        "apvfio_version": __version__,
        "apvfio_files": digest_of(read_guest_files(Machine().files, str(node.guests))),
    }
    node.wait(lambda: "apvfio-db1" in node.attributes(), "the attribute")
    assert json.loads(node.run(*words))["changes"] == []


def test_the_agent_keeps_it_up_to_date_and_writes_nothing_without_need(node: Node) -> None:
    node.run("attrd_updater", "--name", "apvfio-db1", "--delete")
    xml = _QUEUES.format(guests=node.guests, apvfio=node.apvfio)
    node.run("cibadmin", "--create", "--scope", "resources", "--xml-text", xml)
    node.wait(lambda: node.attributes().get("apvfio-db1") == "1", "the attribute")
    time.sleep(3)
    before = node.version()
    time.sleep(_QUIET)
    assert node.version() == before
    assert "apvfio-db1" in node.state()


def test_ocf_tester_finds_no_fault(node: Node) -> None:
    require_program("ocf-tester")
    options = ("-o", f"guests={node.guests}", "-o", f"apvfio={node.apvfio}")
    said = node.run("ocf-tester", "-n", "tested", *options, "/usr/lib/ocf/resource.d/apvfio/Queues")
    assert "passed all tests" in said


def test_a_fault_is_shown_and_takes_nothing_away(node: Node) -> None:
    moved = node.work / "away"
    node.guests.rename(moved)
    node.wait(lambda: "cannot be read" in node.attributes().get("apvfio_problem", ""), "the problem")
    assert node.attributes()["apvfio-db1"] == "1"
    assert "apvfio_problem" in node.state()
    moved.rename(node.guests)
    node.wait(lambda: "apvfio_problem" not in node.attributes(), "its end")


def test_the_end_of_the_agent_takes_nothing_away(node: Node) -> None:
    node.run("crm_resource", "--resource", "queues", "--meta", "-p", "target-role", "-v", "Stopped")
    node.wait(
        lambda: "running on" not in node.run("crm_resource", "--resource", "queues", "--locate"), "its stop"
    )
    assert node.attributes()["apvfio-db1"] == "1"


def test_the_doctor_examines_the_cluster(node: Node) -> None:
    """It asks the cluster itself; that this machine has no AP bus is another matter."""
    words = [sys.executable, "-m", "apvfio", "doctor", "--json"]
    document = json.loads(node.run(*words, check=False))
    require("doctor", document)
    checks = {check["id"]: check for check in document["checks"] if check["group"] == "cluster"}
    assert checks["cluster"]["message"] == "this host is a node of a cluster with 1 node"
    assert checks["fencing"]["message"].startswith("fencing is switched off")
    assert checks["publisher"]["message"].startswith("resource queues is not a clone")
    assert checks["published"]["state"] == "ok"

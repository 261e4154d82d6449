# SPDX-License-Identifier: Apache-2.0
"""The doctor's section on the cluster: each fault of a configuration is named, and its commands mend it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.cluster.configuration import read_configuration
from apvfio.cluster.guest_files import read_guest_file
from apvfio.cluster.publish import FILES, PROBLEM, VERSION
from apvfio.cluster.resource import Resource
from apvfio.doctor.check import OK
from apvfio.doctor.checks.cluster import judge_cluster
from apvfio.doctor.collect.cluster import clock_ahead, look_at_cluster
from apvfio.doctor.facts import ClusterFacts, Facts, KernelFacts, NodeAnswer, StoreFacts, Unseen
from apvfio.doctor.remedies import Words
from apvfio.domain.xml_tree import etree
from apvfio.mdev import programs
from apvfio.model.errors import ApvfioError
from domain_xml import domain
from memory_host import Machine
from pacemaker_env import a_cib, require_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from apvfio.doctor.check import Check

NODES = ("n1", "n2")
SOUND = {"stonith-enabled": "true", "placement-strategy": "utilization"}
_FENCING = '<primitive id="hmc" class="stonith" type="fence_ibmz"/>'
_PUBLISHER = '<primitive id="queues" class="ocf" provider="apvfio" type="Queues"/>'
_CLONE = f'<clone id="queues-clone">{_PUBLISHER}</clone>'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "db1.xml"
    found.write_bytes(domain('<ap:any mode="ep11" domains="2"/>'))
    return found


def cluster(file: Path, *resources: str, options: dict[str, str] = SOUND) -> etree._Element:
    """Two nodes that publish the same, and a guest as ``cluster guest`` configures it."""
    guest = Resource.of(read_guest_file(Machine().files, str(file)))
    capacity = {"ap-ep11": 4}
    found = a_cib(dict.fromkeys(NODES, (capacity, ["db1"])), [guest], options)
    place = found.find("configuration/resources")
    assert place is not None
    place.extend(map(etree.fromstring, resources))
    for attributes in found.iterfind("status/node_state/transient_attributes/instance_attributes"):
        for name, value in ((VERSION, "0.9.0"), (FILES, "0123456789ab")):
            identity = f"{attributes.get('id')}-{name}"
            etree.SubElement(attributes, "nvpair", id=identity, name=name, value=value)
    return found


def attribute(document: etree._Element, node: str, name: str) -> etree._Element:
    path = f"status/node_state[@uname='{node}']//nvpair[@name='{name}']"
    found = document.find(path)
    assert found is not None
    return found


def judged(found: ClusterFacts) -> list[Check]:
    why = Unseen(ApvfioError("not looked at."))
    facts = Facts(
        kernel=KernelFacts.unseen(why),
        store=StoreFacts.unseen(why),
        machine=None,
        guests=why,
        defined={},
        session=False,
        rights=True,
        mdevctl=False,
        cluster=found,
    )
    return list(judge_cluster(facts, Words()))


REACHED = {"n2": NodeAnswer()}


def faults(
    document: etree._Element, file: Path, answers: Mapping[str, NodeAnswer] | None = REACHED
) -> list[Check]:
    files = (read_guest_file(Machine().files, str(file)),)
    facts = ClusterFacts("n1", read_configuration(document), files, answers, "pcs")
    return [check for check in judged(facts) if check.state != OK]


def remove(element: etree._Element | None) -> None:
    parent = element.getparent() if element is not None else None
    assert element is not None
    assert parent is not None
    parent.remove(element)


def test_a_sound_cluster_has_no_fault(file: Path) -> None:
    document = cluster(file, _FENCING, _CLONE)
    assert faults(document, file) == []
    found = judged(ClusterFacts("n1", read_configuration(document), (), None, ""))
    assert found[0].sentence == "this host is a node of a cluster with 2 nodes"


BREAKS: dict[str, tuple[str, str, Callable[[etree._Element], None]]] = {
    "no location rule": (
        "cluster-guest",
        "no location rule tests apvfio-db1",
        lambda cib: remove(cib.find("configuration/constraints/rsc_location")),
    ),
    "no failure-timeout": (
        "cluster-guest",
        "it has no failure-timeout",
        lambda cib: remove(cib.find(".//primitive[@id='db1']//nvpair[@name='failure-timeout']")),
    ),
    "another request": (
        "cluster-guest",
        "its resource uses other queues",
        lambda cib: remove(cib.find(".//primitive[@id='db1']/utilization")),
    ),
    "another version": (
        "published",
        "node n2 has apvfio 0.8.0, this host has 0.9.0.",
        lambda cib: attribute(cib, "n2", VERSION).set("value", "0.8.0"),
    ),
    "other files": (
        "published",
        "the guests' files on node n2 are not the same as on this host.",
        lambda cib: attribute(cib, "n2", FILES).set("value", "ba9876543210"),
    ),
    "nothing published": (
        "published",
        "node n2 has published nothing",
        lambda cib: remove(cib.find("status/node_state[@uname='n2']/transient_attributes")),
    ),
    "a problem elsewhere": (
        "published",
        "node n2 publishes: The AP bus is away.",
        lambda cib: attribute(cib, "n2", FILES).attrib.update(
            {"name": PROBLEM, "value": "The AP bus is away."}
        ),
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_one_fault_is_one_finding(file: Path, what: str) -> None:
    name, sentence, change = BREAKS[what]
    document = cluster(file, _FENCING, _CLONE)
    change(document)
    (found,) = faults(document, file)
    assert (found.id, found.state) == (name, "warning")
    assert sentence in found.sentence


@pytest.mark.parametrize(
    ("resources", "options", "name", "state"),
    [
        ((_CLONE,), SOUND, "fencing", "problem"),
        ((_CLONE, _FENCING), {**SOUND, "stonith-enabled": "False"}, "fencing", "warning"),
        ((_CLONE, _FENCING), {"placement-strategy": "default"}, "placement", "warning"),
        ((_FENCING,), SOUND, "publisher", "problem"),
        ((_FENCING, _PUBLISHER), SOUND, "publisher", "warning"),
    ],
)
def test_what_the_cluster_as_a_whole_lacks(
    file: Path, resources: tuple[str, ...], options: dict[str, str], name: str, state: str
) -> None:
    (found,) = faults(cluster(file, *resources, options=options), file)
    assert (found.id, found.state) == (name, state)
    assert found.remedy


def test_a_file_that_makes_no_sense(file: Path) -> None:
    document = cluster(file, _FENCING, _CLONE)
    file.write_text("<domain>")
    (found,) = faults(document, file)
    assert (found.id, found.state, found.guest) == ("cluster-guest", "warning", "db1")
    file.unlink()
    (found,) = faults(document, file)
    assert "cannot be read" in found.sentence


def test_a_node_that_ssh_does_not_reach(file: Path) -> None:
    why = "Host key verification failed."
    (found,) = faults(cluster(file, _FENCING, _CLONE), file, answers={"n2": NodeAnswer(why)})
    assert (found.id, found.state) == ("cluster-ssh", "warning")
    assert "no guest can be migrated to node n2" in found.sentence
    assert why.rstrip(".") in found.sentence
    (found,) = faults(cluster(file, _FENCING, _CLONE), file, answers=None)
    assert found.state == "skipped"


def test_a_node_with_another_time(file: Path) -> None:
    document = cluster(file, _FENCING, _CLONE)
    for clock, words in ((65.0, "is 65 s ahead of"), (-65.0, "is 65 s behind")):
        (found,) = faults(document, file, answers={"n2": NodeAnswer(clock=clock)})
        assert (found.id, found.state) == ("cluster-clock", "warning")
        assert f"the clock of node n2 {words} this host's" in found.sentence
    assert faults(document, file, answers={"n2": NodeAnswer(clock=2.0)}) == []


@pytest.mark.parametrize(
    ("there", "begun", "ended", "ahead"),
    [(100, 100.9, 101.2, 0), (101, 100.9, 101.2, 0), (160, 100, 101, 59), (40, 100, 101, -59)],
)
def test_a_delay_is_no_difference(there: float, begun: float, ended: float, ahead: float) -> None:
    assert clock_ahead(there, begun, ended) == ahead


def test_the_commands_mend_a_real_configuration(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_program("crm_attribute")
    document = cluster(file, _FENCING, _CLONE, options={"stonith-enabled": "false"})
    remove(document.find(".//primitive[@id='db1']//nvpair[@name='failure-timeout']"))
    stored = tmp_path / "cib.xml"
    stored.write_bytes(etree.tostring(document))
    stored.chmod(0o644)
    monkeypatch.setenv("CIB_file", str(stored))
    found = faults(document, file)
    assert [one.id for one in found] == ["fencing", "placement", "cluster-guest"]
    assert [bool(one.commands) for one in found] == [False, False, True], "nothing may be moved or fenced"
    env = {"PATH": programs.PATH, "CIB_file": str(stored)}
    for check in found:
        for command in check.commands:
            done = subprocess.run(shlex.split(command), env=env, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    assert [one.id for one in faults(etree.fromstring(stored.read_bytes()), file)] == ["fencing", "placement"]


def test_the_cluster_is_read_from_pacemaker(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_program("cibadmin")
    stored = tmp_path / "cib.xml"
    monkeypatch.setenv("CIB_file", str(stored))
    files = Machine().files
    stored.write_bytes(etree.tostring(a_cib({"n1": ({}, ())}, ())))
    assert look_at_cluster(files) is None, "a cluster without guests with queues"
    stored.write_bytes(etree.tostring(cluster(file, _CLONE)))
    found = look_at_cluster(files)
    assert found
    assert not isinstance(found.configuration, Unseen)
    assert [guest.name for guest in found.configuration.guests] == ["db1"]
    assert [one.path for one in found.files] == [str(file)]
    if found.answers is not None:
        assert set(found.answers) == set(NODES)
        assert all("resolve hostname" in answer.problem for answer in found.answers.values())


@pytest.mark.parametrize("configured", [True, False])
def test_a_cluster_that_does_not_answer_is_reported_where_it_runs_guests(
    configured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of corosync that nobody uses is no cluster."""
    require_program("cibadmin")
    monkeypatch.setenv("CIB_file", str(tmp_path / "missing.xml"))
    corosync = tmp_path / "corosync.conf"
    monkeypatch.setattr("apvfio.doctor.collect.cluster._COROSYNC", str(corosync))
    if configured:
        corosync.touch()
    files = Machine().files
    assert look_at_cluster(files) is None
    files.write("etc/apvfio/guests/db1.xml", "<domain/>")
    found = look_at_cluster(files)
    assert (found is not None) is configured
    assert found is None or isinstance(found.configuration, Unseen)

# SPDX-License-Identifier: Apache-2.0
"""The configuration of a guest: what it consumes, and that Pacemaker accepts it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.cluster.classes import utilization
from apvfio.cluster.guest_files import read_guest_file, read_guest_files
from apvfio.cluster.resource import Resource
from apvfio.domain.xml_tree import etree
from apvfio.model.criteria import Criteria
from apvfio.model.errors import FileError, RequestError
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.model.request import Request
from criteria import a_criteria
from domain_xml import HOSTDEV, domain
from hosts import a_request, guest, mdev
from memory_host import Machine
from pacemaker_env import a_cib, require_program

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "a1b2" * 8
ASKED = f'<ap:any mode="ep11" adapters="2" min-generation="6" mkvp="0x{KEY}"/>'


def consumed(criteria: Criteria, *, secure: bool = False) -> Mapping[str, int]:
    return utilization(Request("g1", guest(1), mdev(1), Matrix(), criteria=criteria, secure=secure))


def test_a_guest_consumes_from_its_class_and_from_each_wider_one() -> None:
    assert consumed(a_criteria("cca")) == {"ap-cca": 1}
    assert consumed(a_criteria("ep11", adapters=2, domains=3, min_generation=4)) == {
        "ap-ep11": 6,
        "ap-ep11-2x1": 3,
        "ap-ep11-1x2": 2,
        "ap-ep11-1x3": 2,
    }
    assert consumed(a_criteria("ep11", domains=1, min_generation=6, mkvp=KEY)) == {
        "ap-ep11": 1,
        f"ap-ep11-{KEY[:16]}": 1,
        "ap-ep11-cex5": 1,
        f"ap-ep11-cex5-{KEY[:16]}": 1,
        "ap-ep11-cex6": 1,
        f"ap-ep11-cex6-{KEY[:16]}": 1,
    }
    assert "ap-ep11-cex8" in consumed(a_criteria("ep11"), secure=True)
    assert utilization(a_request("0,10", "27")) == {"ap-00-001b": 1, "ap-0a-001b": 1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "db1.xml"
    path.write_bytes(domain(ASKED))
    return path


def resource(file: Path) -> Resource:
    return Resource.of(read_guest_file(Machine().files, str(file)))


def test_pacemaker_accepts_it(file: Path, tmp_path: Path) -> None:
    require_program("crm_verify")
    made = resource(file)
    cib = tmp_path / "cib.xml"
    cib.write_bytes(etree.tostring(a_cib({"n1": ({}, ["db1"])}, [made])))
    done = subprocess.run(["crm_verify", "-V", "-x", cib], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_secure_execution_guest_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "db1.xml"
    path.write_bytes(
        domain('<ap:any mode="ep11"/>').replace(b"</domain>", b"<launchSecurity type='s390-pv'/></domain>")
    )
    assert resource(path).meta["allow-migrate"] == "false"


def test_what_is_no_guest_is_told(tmp_path: Path) -> None:
    plain = tmp_path / "plain.xml"
    plain.write_bytes(domain().replace(b"urn:apvfio", b"urn:other"))
    with pytest.raises(RequestError, match="has no annotation"):
        resource(plain)
    with pytest.raises(FileError, match="cannot be read"):
        resource(tmp_path / "missing.xml")
    for name in ("a b.xml", "1a.xml", "ä.xml", ".xml"):
        odd = tmp_path / name
        odd.write_bytes(domain())
        with pytest.raises(RequestError, match="has a name that no resource"):
            resource(odd)


def test_guests_with_the_same_uuid_or_device_are_told(tmp_path: Path) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    device = HOSTDEV.replace("0A0B0C0D", "0A0B0C0E")
    (tmp_path / "a.xml").write_bytes(domain())
    (tmp_path / "b.xml").write_bytes(domain(devices=device))
    files = read_guest_files(Machine().files, str(tmp_path))
    assert [str(one.error and one.error.sentence).split()[1] for one in files] == ["UUID", "UUID"]
    (tmp_path / "b.xml").write_bytes(domain(uuid=other))
    files = read_guest_files(Machine().files, str(tmp_path))
    assert ["mediated device" in str(one.error) for one in files] == [True, True]
    (tmp_path / "b.xml").write_bytes(domain(devices=device, uuid=other))
    assert all(one.request for one in read_guest_files(Machine().files, str(tmp_path)))


def test_the_hosts_own_directory_is_below_its_root() -> None:
    machine = Machine()
    machine.files.texts["etc/apvfio/guests/db1.xml"] = domain(
        '<ap:matrix adapters="0" domains="1"/>'
    ).decode()
    machine.files.texts["etc/apvfio/guests/README"] = "x"
    (found,) = read_guest_files(machine.files, None)
    assert found.request
    assert (found.name, found.request.matrix) == ("db1", Matrix(IdSet([0]), IdSet([1])))

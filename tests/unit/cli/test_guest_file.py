# SPDX-License-Identifier: Apache-2.0
"""``guest set`` and ``guest clear`` of a file (``--xml``): what is written, what stays, what is refused."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from apvfio.domain.request import parse_device, parse_domain
from apvfio.domain.xml_editor import own_mdev, with_request_in_file
from apvfio.model.errors import Exit
from criteria import a_criteria
from domain_xml import HOSTDEV, MDEV, UUID, domain, rest
from hosts import a_matrix
from json_schema import require
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = f"""\
<?xml version='1.0' encoding='UTF-8'?>
<!-- db1 > web, kept by hand -->
<domain type='kvm'>
  <name>db1</name>
  <uuid>{UUID}</uuid>
  <!-- two processors -->
  <vcpu>2</vcpu>
  <devices/>
</domain>
<!-- the end -->
"""
WORDS = ("--adapters", "0", "--domains", "1")


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "guests/db1.xml"
    path.parent.mkdir()
    path.write_text(PLAIN)
    path.chmod(0o640)
    return path


def set_in(host: SimulatedHost, file: Path, *words: str) -> int:
    return host.run("guest", "set", "--xml", str(file), *(words or WORDS))


def test_the_request_is_written_and_all_else_stays(host: SimulatedHost, file: Path) -> None:
    inode = file.stat().st_ino
    assert set_in(host, file) == Exit.OK
    text = file.read_bytes()
    request = parse_domain(text)
    assert request
    assert (request.matrix, request.mdev) == (a_matrix("0", "1"), own_mdev(UUID))
    assert text.startswith(
        b"<?xml version='1.0' encoding='UTF-8'?>\n<!-- db1 > web, kept by hand -->\n<domain"
    )
    assert text.endswith(b"</domain>\n<!-- the end -->\n")
    assert b"</uuid>\n  <metadata>\n    <ap:" in text
    assert b"  </metadata>\n  <!-- two processors -->\n  <vcpu>2</vcpu>\n" in text
    assert rest(text, mdev=request.mdev).replace("<devices></devices>", "") == rest(PLAIN.encode()).replace(
        "<devices></devices>", ""
    )
    assert (file.stat().st_mode & 0o777, file.stat().st_ino == inode) == (0o640, False)
    assert os.listdir(file.parent) == ["db1.xml"]


def test_again_it_writes_nothing(host: SimulatedHost, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set_in(host, file) == Exit.OK
    before = (file.stat().st_ino, file.read_bytes())
    assert set_in(host, file) == Exit.OK
    assert (file.stat().st_ino, file.read_bytes()) == before
    assert "nothing to change" in capsys.readouterr().out


def test_a_link_stays_a_link(host: SimulatedHost, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.xml"
    link.symlink_to(file)
    assert set_in(host, link, "--any", "mode=ep11") == Exit.OK
    assert link.is_symlink()
    request = parse_domain(file.read_bytes())
    assert request
    assert request.criteria == a_criteria("ep11")


def test_a_dry_run_says_what_would_change_and_its_state_is_required(
    host: SimulatedHost, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_in(host, file, *WORDS, "--dry-run", "--json") == Exit.OK
    found = json.loads(capsys.readouterr().out)
    require("guest_set", found)
    assert any("ap:matrix" in line for line in found["definition"])
    assert file.read_text() == PLAIN
    file.write_text(PLAIN.replace("<vcpu>2", "<vcpu>3"))
    assert set_in(host, file, *WORDS, "--if-state", found["state"]) == Exit.CONFLICT
    file.write_text(PLAIN)
    assert set_in(host, file, *WORDS, "--if-state", found["state"]) == Exit.OK


def test_a_copy_gets_a_device_of_its_own(
    host: SimulatedHost, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    (file.parent / "web.xml").write_bytes(domain(name="web"))
    (file.parent / "broken.xml").write_text("<domain")
    file.write_bytes(domain(uuid=other))
    assert set_in(host, file) == Exit.OK
    device = parse_device(file.read_bytes())
    assert device
    assert device.mdev == own_mdev(other)
    assert f"guest web has the mediated device {MDEV.lower()} as well" in capsys.readouterr().out
    assert set_in(host, file, "--new-device") == Exit.OK
    device = parse_device(file.read_bytes())
    assert device
    assert device.mdev == own_mdev(other, 2)
    assert set_in(host, file, *WORDS, "--no-hostdev") == Exit.OK


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--adapters", "5", "--domains", "1"), Exit.HOST, "this host has no adapter 5"),
        (("--new-device",), Exit.REQUEST, "it has no annotation"),
        ((*WORDS, "--live"), Exit.USAGE, "a file has no running guest"),
        (("db1", *WORDS), Exit.USAGE, "takes either a guest's name or --xml FILE"),
    ],
)
def test_what_is_refused_changes_nothing(
    host: SimulatedHost,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    assert set_in(host, file, *words) == code
    assert said in capsys.readouterr().err
    assert file.read_text() == PLAIN


def test_what_the_host_lacks_is_written_unchecked(host: SimulatedHost, file: Path) -> None:
    assert set_in(host, file, "--adapters", "5", "--domains", "1", "--unchecked") == Exit.OK
    request = parse_domain(file.read_bytes())
    assert request
    assert request.matrix == a_matrix("5", "1")


def test_a_missing_file_and_no_domain(
    host: SimulatedHost, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_in(host, file.with_name("none.xml")) == Exit.HOST
    assert "cannot be read" in capsys.readouterr().err
    file.write_text("<domain>")
    assert set_in(host, file) == Exit.REQUEST


def test_the_bounds_of_the_domain_are_found_in_any_text() -> None:
    for before, after in (("", ""), ("<!-- <domain> -->\n", "\n<?x </domain>?>"), ("\ufeff", " \n")):
        made = with_request_in_file((before + domain(devices=HOSTDEV).decode() + after).encode(), None, None)
        assert made.startswith((before + "<domain ").encode())
        assert made.endswith(("</domain>" + after).encode())
    empty = with_request_in_file(b"<!-- a --><domain/>\n", None, None)
    assert empty == b"<!-- a --><domain/>\n"


def clear_in(host: SimulatedHost, file: Path, *words: str) -> int:
    return host.run("guest", "clear", "--xml", str(file), *words)


def test_set_and_clear_leave_the_file_as_it_was(
    host: SimulatedHost, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_in(host, file) == Exit.OK
    with_request = file.read_text()
    capsys.readouterr()
    assert clear_in(host, file, "--dry-run", "--json") == Exit.OK
    found = json.loads(capsys.readouterr().out)
    require("guest_clear", found)
    assert any(line.startswith("-") and "ap:matrix" in line for line in found["definition"])
    assert file.read_text() == with_request
    assert clear_in(host, file, "--if-state", found["state"]) == Exit.OK
    assert rest(file.read_bytes()) == rest(PLAIN.encode())
    assert file.read_text() == PLAIN.replace("'kvm'", '"kvm"')
    inode = file.stat().st_ino
    assert clear_in(host, file) == Exit.OK
    assert "nothing to change" in capsys.readouterr().out
    assert file.stat().st_ino == inode


def test_a_device_goes_if_apvfio_has_chosen_it(host: SimulatedHost, file: Path) -> None:
    file.write_bytes(domain())
    assert clear_in(host, file) == Exit.OK
    device = parse_device(file.read_bytes())
    assert device, "somebody else chose its UUID"
    assert device.mdev == MDEV.lower()
    assert clear_in(host, file, "--remove-hostdev") == Exit.OK
    assert parse_device(file.read_bytes()) is None
    # A copy has the device of its original.
    file.write_text(PLAIN)
    assert set_in(host, file) == Exit.OK
    copy = file.parent / "copy.xml"
    copy.write_text(file.read_text().replace(UUID, "11111111-2222-4333-8444-555555555555"))
    assert clear_in(host, copy, "--keep-hostdev") == Exit.OK
    assert parse_device(copy.read_bytes())
    assert clear_in(host, copy) == Exit.OK
    assert parse_device(copy.read_bytes()) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "guest clear takes either a guest's name or --xml FILE"),
        (("--xml", "f.xml", "db1"), "guest clear takes either a guest's name or --xml FILE"),
        (("--xml", "f.xml", "--live"), "a file has no running guest"),
    ],
)
def test_what_clear_refuses(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert host.run("guest", "clear", *words) == Exit.USAGE
    assert said in capsys.readouterr().err

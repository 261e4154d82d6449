# SPDX-License-Identifier: Apache-2.0
"""The modules on a simulated host, with files of guests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ansible_env import CHECKOUT, Play, command, missing
from simulated_host import SimulatedHost

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
HOST = "host1"


@pytest.fixture
def play(tmp_path: Path) -> Play:
    host = SimulatedHost(tmp_path)
    apvfio = command(tmp_path / "apvfio", "--sim", host.path)
    return Play(tmp_path, {HOST: {"ansible_connection": "local", "apvfio": str(apvfio)}})


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    guests = tmp_path / "guests"
    guests.mkdir()
    return Path(shutil.copy(CHECKOUT / "examples/guest.xml", guests / "db1.xml"))


def test_a_file_is_changed_once(play: Play, guest: Path) -> None:
    before = guest.read_text()
    wanted = {"xml": str(guest), "criteria": "mode=ep11"}
    would = play.run("apvfio_guest", "--check", "--diff", **wanted)[HOST]
    assert would["changed"]
    assert would["plan"]["queues"] == ["0a.0001"]
    assert guest.read_text() == before
    done = play.run("apvfio_guest", "--diff", **wanted)[HOST]
    assert done["changed"]
    assert done["diff"] == would["diff"]
    removed, added = (
        [line[1:].strip() for line in done["diff"]["prepared"].splitlines() if line.startswith(sign)]
        for sign in "-+"
    )
    assert removed
    assert added
    assert all(line in before for line in removed)
    assert all(line in guest.read_text() for line in added)
    for words in ((), ("--check",)):
        assert not play.run("apvfio_guest", *words, **wanted)[HOST]["changed"]


def test_adapters_of_several_kinds(play: Play, guest: Path) -> None:
    wanted = {
        "xml": str(guest),
        "criteria": "domains=2",
        "cards": ["mode=cca,adapters=1", "mode=ep11,adapters=1"],
        "control_domains": "usage",
    }
    done = play.run("apvfio_guest", **wanted)[HOST]
    assert done["changed"]
    assert done["plan"]["queues"] == ["01.0001", "01.0002", "0a.0001", "0a.0002"]
    assert guest.read_text().count("<ap:cards ") == 2
    assert not play.run("apvfio_guest", **wanted)[HOST]["changed"]


def test_what_the_host_lacks_fails_with_the_sentence(play: Play, guest: Path) -> None:
    before = guest.read_text()
    for words in ((), ("--check",)):
        failed = play.run("apvfio_guest", *words, xml=str(guest), adapters="0x30", domains="1")[HOST]
        assert failed["failed"]
        assert failed["error"]["kind"] == "host"
        assert failed["msg"].startswith("guest db1: this host has no adapter 48 (0x30)")
    assert guest.read_text() == before
    done = play.run("apvfio_guest", xml=str(guest), adapters="0x30", domains="1", unchecked=True)[HOST]
    assert done["changed"]


def test_a_command_that_is_missing_or_prints_no_json(play: Play, tmp_path: Path, guest: Path) -> None:
    apvfio = tmp_path / "apvfio"
    apvfio.write_text("#!/bin/sh\necho no such interpreter >&2\nexit 127\n")
    assert play.run("apvfio_guest", xml=str(guest))[HOST]["msg"] == "no such interpreter"
    apvfio.unlink()
    failed = play.run("apvfio_facts")[HOST]
    assert failed["failed"]
    assert failed["msg"].startswith(f"{apvfio} cannot be run: No such file or directory.")


def test_facts(play: Play, guest: Path) -> None:
    facts = play.run("apvfio_facts", guests=str(guest.parent))[HOST]["ansible_facts"]["apvfio"]
    assert {entry["queue"] for entry in facts["queues"]} >= {"00.0001", "0a.001b"}
    assert facts["offer"]["attributes"] == {"apvfio-db1": "1"}
    assert [(one["id"], one["agent"]) for one in facts["primitives"]] == [("db1", "ocf:apvfio:Guest")]
    assert facts["locations"][0]["rule"] == "not_defined apvfio-db1 or apvfio-db1 ne 1"
    assert play.run("apvfio_facts")[HOST]["ansible_facts"]["apvfio"]["offer"] is None

# SPDX-License-Identifier: Apache-2.0
"""``apvfio status --svg FILE``: where the drawing goes, and what is left alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from hosts import a_request
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    made = SimulatedHost(tmp_path)
    made.start(a_request("0", "1")._replace(guest="<Öl&漢>"))
    return made


def test_a_new_file_is_its_owners_alone_and_a_second_run_writes_the_same(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "drawn"
    assert host.run("status", "--svg", str(there)) == Exit.OK
    first = there.read_text(encoding="utf-8")
    assert first.startswith("<svg ")
    assert "guest &lt;Öl&amp;漢&gt;" in first
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    there.chmod(0o644)
    assert host.run("status", "--svg", str(there)) == Exit.OK
    assert there.read_text(encoding="utf-8") == first
    assert stat.S_IMODE(there.stat().st_mode) == 0o644
    assert sorted(os.listdir(tmp_path)) == ["drawn", "host.json"]
    assert capsys.readouterr() == ("", "")
    assert host.run("status", "--svg", "-") == Exit.OK
    assert capsys.readouterr() == (first, "")


def test_in_the_current_directory(
    host: SimulatedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert host.run("status", "--svg", "here.svg") == Exit.OK
    assert (tmp_path / "here.svg").read_text().startswith("<svg ")


def test_what_is_no_ordinary_file_is_left_alone(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (tmp_path / "link").symlink_to(precious)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    before = sorted(os.listdir(tmp_path))
    for name in ("link", "dangling", "directory", "fifo"):
        assert host.run("status", "--svg", str(tmp_path / name)) == Exit.USAGE
        said = capsys.readouterr().err
        assert (
            said
            == f"apvfio: {tmp_path / name} is not a regular file. Choose another name, or - to pipe it.\n"
        )
    assert host.run("status", "--svg", "/dev/full") == Exit.USAGE
    assert host.run("status", "--svg", "") == Exit.USAGE
    assert precious.read_text() == "keep me"
    assert sorted(os.listdir(tmp_path)) == before


def test_no_directory_is_made(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.run("status", "--svg", str(tmp_path / "no" / "such\n.svg")) == Exit.HOST
    assert (
        "such?.svg cannot be written: its directory does not exist. Create it first."
        in capsys.readouterr().err
    )
    assert not (tmp_path / "no").exists()
    assert host.run("status", "--svg", str(tmp_path / ("x" * 300))) == Exit.HOST
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "--svg", "-"], "--json and --svg exclude each other"),
        (["--svg", "-", "--watch"], "--svg and --watch exclude each other"),
    ],
)
def test_one_form_at_a_time(
    host: SimulatedHost, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert host.run("status", *words) == Exit.USAGE
    shown = capfd.readouterr()
    assert said in shown.out + shown.err
    assert "<svg" not in shown.out

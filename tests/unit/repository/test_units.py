# SPDX-License-Identifier: Apache-2.0
"""What systemd reads of us, read by systemd itself."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from apvfio.engine.deferred import DIRECTORY

HOOKS = Path(__file__).parents[3] / "hooks"
UNITS = {
    "apvfio-prepare.service": "@APVFIO@ reconcile",
    "apvfio-reconcile.path": "",
    "apvfio-reconcile.service": "@APVFIO@ reconcile",
    "apvfio-metrics.service": "@APVFIO@ metrics --output ${TEXTFILE}",
    "apvfio-metrics.timer": "",
}
"""The units, and what they run of us."""


def needs(command: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(command), reason=f"{command} is not installed")


def read(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(HOOKS / unit)
    return parser


@needs("systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for unit, command in UNITS.items():
        text = (HOOKS / unit).read_text()
        assert ("@APVFIO@" in text) is bool(command)
        assert command in text
        (tmp_path / unit).write_text(text.replace("@APVFIO@", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit) for unit in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs("systemd-tmpfiles")
def test_the_directory_of_the_ledger_is_roots_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(HOOKS / "apvfio.tmpfiles")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Only root may make files root's.
    if done.returncode == 0:
        assert (tmp_path / "run/apvfio").stat().st_mode & 0o7777 == 0o700
    else:
        assert "Operation not permitted" in done.stderr


def test_the_path_unit_watches_where_the_hook_puts_files() -> None:
    path = read("apvfio-reconcile.path")["Path"]
    assert path["DirectoryNotEmpty"] == f"/{DIRECTORY}"
    assert (path["MakeDirectory"], path["DirectoryMode"]) == ("yes", "0700")


def test_no_daemon_waits_for_the_unit_that_takes_its_time() -> None:
    prepare, reconcile = read("apvfio-prepare.service"), read("apvfio-reconcile.service")
    daemons = "libvirtd.service virtqemud.service"
    assert prepare["Unit"]["Before"] == prepare["Install"]["WantedBy"] == daemons
    assert "--defer" in prepare["Service"]["ExecStart"]
    assert int(prepare["Service"]["TimeoutStartSec"]) <= 60
    assert "Before" not in reconcile["Unit"]
    assert "--defer" not in reconcile["Service"]["ExecStart"]
    assert "Install" not in reconcile


def test_the_rule_is_for_cards_and_never_runs_anything_itself() -> None:
    lines = [line for line in (HOOKS / "90-apvfio.rules").read_text().splitlines() if line[:1] != "#"]
    (rule,) = lines
    assert "RUN" not in rule
    assert 'ENV{SYSTEMD_WANTS}+="apvfio-reconcile.service"' in rule
    assert 'KERNEL=="card[0-9a-f][0-9a-f]"' in rule
    # systemd takes a device for gone that an event leaves without the tag.
    assert rule.startswith('ACTION!="remove", ')

# SPDX-License-Identifier: Apache-2.0
"""``apvfio migrate`` as far as it gets without two libvirt daemons, which the libvirt tier has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apvfio.cli.main import main
from apvfio.migration.places import EXIT_CODES, UNCLEAR
from apvfio.model.errors import Exit
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel

NOBODY = "qemu+unix:///system?socket=/nowhere/libvirt-sock"


def run(root: Path, *words: str) -> int:
    return main(["--root", str(root), "migrate", "--connect", NOBODY, *words])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["db1"], "the following arguments are required: DESTINATION"),
        (["db1", "z15"], "is not the system's libvirt daemon"),
        (["db1", "qemu+ssh://-oProxyCommand=reboot/system"], "that ssh does not accept"),
        (["db1", "qemu+tcp://z15/system"], "does not say how to run apvfio there"),
        (["db1", NOBODY, "--at", "'"], "No closing quotation"),
        (["db1", NOBODY, "--timeout", "0"], "not a whole number from 5 to"),
        (["db1", NOBODY, "--timeout", "\u0663"], "not a whole number from 5 to"),
        (["db1", NOBODY, "--back", "--dry-run"], "not allowed with argument"),
    ],
)
def test_what_is_no_command(
    tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *words) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_host_in_a_file_runs_no_guests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "host.json"
    create_sim(str(file), SimKernel.new())
    before = file.read_bytes()
    assert main(["--sim", str(file), "migrate", "db1", NOBODY, "--at", "apvfio"]) == Exit.USAGE
    assert "a simulated host in a file runs no guests." in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("guest", ["db1", "../../x", "a\nb", "\udcff", "x" * 70000])
def test_a_daemon_that_does_not_answer(
    tmp_path: Path, guest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, guest, NOBODY, "--at", "apvfio", "--json") == EXIT_CODES[UNCLEAR]
    said = json.loads(capsys.readouterr().out)
    assert (said["error"]["kind"], "does not answer" in said["error"]["message"]) == ("host", True)
    assert (said["error"]["place"], said["error"]["has_queues"]) == ("unknown", None)
    assert list(tmp_path.iterdir()) == []

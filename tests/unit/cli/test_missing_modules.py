# SPDX-License-Identifier: Apache-2.0
"""Commands on a machine without lxml, without sh, or with neither."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from apvfio.model.errors import Exit
from hosts import a_matrix, mdev
from lab.guest import guest_xml

CHECKOUT = Path(__file__).parents[3]
MISSING = "lxml, the XML library for Python, is not installed. Install python3-lxml."
WITHOUT = """\
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"lxml", "sh"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
MAIN = "from apvfio.cli.main import main; sys.exit(main(sys.argv[1:]))"


def run(*words: object, code: str = MAIN) -> subprocess.CompletedProcess[str]:
    """Run apvfio, or other ``code``, with an interpreter that has neither library."""
    command = [sys.executable, "-c", WITHOUT + code, *map(str, words)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated host."""
    path = tmp_path_factory.mktemp("sim") / "host"
    assert run("sim", "new", path).returncode == Exit.OK
    return path


@pytest.fixture(scope="module")
def guest(sim: Path) -> Path:
    """A file with a guest's XML."""
    path = sim.parent / "db1.xml"
    path.write_text(guest_xml("db1", a_matrix("0", "1"), mdev(1)))
    return path


@pytest.mark.parametrize(
    "words",
    [
        *("status", "queues", "masks", "mechanism", "reconcile", "log", "metrics"),
        *("plan --xml {guest}", "define --xml {guest}", "doctor"),
    ],
)
def test_commands_that_edit_no_xml_do_without_lxml(sim: Path, guest: Path, words: str) -> None:
    done = run("--sim", sim, *words.format(guest=guest).split())
    assert (done.returncode, done.stderr) == (Exit.OK, "")


def test_it_can_be_installed_and_removed(tmp_path: Path) -> None:
    for command in ("install", "uninstall"):
        done = run("--root", tmp_path, command)
        assert (done.returncode, done.stderr) == (Exit.OK, "")


def test_a_command_that_needs_lxml_says_so(sim: Path, guest: Path) -> None:
    done = run("--sim", sim, "doctor", "--xml", guest)
    assert done.returncode == Exit.HOST
    assert f"PROBLEM {MISSING.partition('.')[0]}." in done.stdout
    assert "unexpected" not in done.stdout
    done = run(code="from apvfio.domain.xml_tree import parse_xml; parse_xml(b'<domain/>', 'x')")
    assert done.stderr.splitlines()[-1] == f"apvfio.model.errors.HostError: {MISSING}"


def test_a_call_of_mdevctl_without_sh_says_so() -> None:
    done = run(code="from apvfio.mdev.mdevctl import Mdevctl; Mdevctl.__new__(Mdevctl).version()")
    assert "MdevctlError: sh, a Python library that mdevctl is called with, is not" in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Each command's --help ends in examples; each is parsed, and run on a simulated host if it can be."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import pytest

from apvfio.cli.examples import EXAMPLES
from apvfio.cli.main import build_parser, main
from apvfio.migration.address import parse_address
from apvfio.model.errors import Exit
from command_line import PARSERS, options
from doctor_env import TEST_DRIVER, Patient
from hosts import a_matrix, a_request

LINES = [(command, line) for command, text in EXAMPLES.items() for line in text.splitlines()]
ELSEWHERE = {
    "--live": "emulation has no bus to plug into; tests/machine",
    "--watch": "runs until Ctrl-C; test_watch",
    "--follow": "runs until Ctrl-C; test_log",
    "apvfio demo": "test_cli",
    "cluster publish": "a cluster; tests/cluster/test_publishing.py",
    "cluster priorities": "Pacemaker; unit/cluster/test_outlook.py",
    "cluster outlook": "Pacemaker; unit/cluster/test_outlook.py",
    "apvfio migrate": "two hosts; tests/libvirt",
    "apvfio install": "this machine; tests/boot",
    "apvfio uninstall": "this machine; tests/boot",
    "sim mount": "tests/fuse",
    "/mnt/host": "what the line before it mounts",
}
"""What is parsed and not run here, and where it is."""
GUEST = "db1"
PIPE = f"virsh dumpxml {GUEST} | "
MAKE = "mkdir tree && "


def words_of(line: str) -> list[str]:
    """The words after ``apvfio``, without what the shell itself does."""
    command = line.removeprefix(MAKE).removeprefix(PIPE)
    name, *words = shlex.split(command, comments=True)
    assert name == "apvfio"
    return words


def ran_elsewhere(line: str) -> bool:
    return any(part in line for part in ELSEWHERE)


@pytest.mark.parametrize("command", sorted(PARSERS))
def test_help_ends_in_examples(command: str) -> None:
    shown = PARSERS[command].format_help()
    assert f"\nexamples:\n  {EXAMPLES[command].splitlines()[0]}\n" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("command", sorted(PARSERS))
def test_help_begins_with_what_it_does(command: str) -> None:
    told = PARSERS[command].description
    assert told
    assert told[0].isupper()
    assert told.rstrip()[-1] == "."


def test_no_command_but_the_parsers_has_examples() -> None:
    assert set(EXAMPLES) == set(PARSERS)


@pytest.mark.parametrize(("command", "line"), LINES, ids=[line for _, line in LINES])
def test_every_example_is_parsed(command: str, line: str) -> None:
    """And says something of the command under which it stands, in full words."""
    args = build_parser().parse_args(words_of(line))
    assert args.run
    place = [word for word in words_of(line) if word in command.split()]
    assert command == "" or place == command.split() or "--sim" in line or "--root" in line
    written = {word for word in words_of(line) if word.startswith("-")}
    assert all(word.startswith("--") for word in written if word != "-" and not word[1:2].isdigit())
    known = set().union(*(options(name) for name in PARSERS))
    assert {word for word in written if word.startswith("--")} <= known


@pytest.fixture
def patient(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Patient:
    """IBM's example host, with the guest of the examples, and its XML, in a directory of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host").mkdir()
    patient = Patient(tmp_path / "host", capsys)
    patient.define(GUEST, a_matrix("0,0xa", "1-2,4"))
    return patient


def run(patient: Patient, line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run an example on the patient, unless it names a host itself, and with its guests."""
    words = words_of(line)
    xml: str = patient.domain(GUEST).XMLDesc()
    if line.startswith(PIPE):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml.encode())))
    if line.startswith(MAKE):
        Path("tree").mkdir()
    if words[0] in ("--sim", "--root"):
        return main(words)
    verb = " ".join(words[:2])
    command = verb if verb in PARSERS else words[0]
    connect = ["--connect", TEST_DRIVER] if "--connect" in options(command) else []
    return patient.run(*words, *connect)


@pytest.mark.parametrize("command", [c for c in EXAMPLES if c not in ("demo", "migrate", "sim mount")])
def test_every_example_runs(
    command: str,
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """One after the other, as they stand."""
    (tmp_path / "guest.xml").write_text(patient.domain(GUEST).XMLDesc())
    if command == "release":
        patient.start(a_request("0,0xa", "1-2,4")._replace(guest=GUEST))
    if command in ("sim start", "sim stop", "sim kill"):
        assert main(["sim", "new", "host.json"]) == Exit.OK
        assert command == "sim start" or main(["sim", "start", "host.json", "guest.xml"]) == Exit.OK
    for line in EXAMPLES[command].splitlines():
        if ran_elsewhere(line):
            continue
        code = run(patient, line, monkeypatch)
        assert (line, code) == (line, Exit.OK), capsys.readouterr().err


def test_the_examples_of_migration_lead_to_apvfio() -> None:
    for line in EXAMPLES["migrate"].splitlines():
        args = build_parser().parse_args(words_of(line))
        assert parse_address(args.destination, args.at).command[-1] == "apvfio"


def test_what_runs_elsewhere_is_little() -> None:
    """Each reason is one that an example has."""
    assert all(any(part in line for _, line in LINES) for part in ELSEWHERE)

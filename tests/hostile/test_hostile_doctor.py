# SPDX-License-Identifier: Apache-2.0
"""Whatever a host's kernel answers, whatever its files and guests hold: the doctor examines it to the end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from faulty_sysfs import ANY, WANTED, a_machine, answers, full_host, questions, spoil
from hostile_input import KINDS, MORE, Said, run, simulated
from json_documents import Way, changed, kinds_of_places

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = full_host()
FILES = [way for way in kinds_of_places(DOCUMENT["files"]) if way]
SKIP = 1 if MORE > 1 else 2
CODES = {Exit.OK, Exit.CONFLICT, Exit.POLICY, Exit.HOST, Exit.REQUEST}


def require_report(said: Said) -> None:
    """All groups were examined and no check failed of itself."""
    assert said.err == ""
    assert said.code in CODES
    checks = json.loads(said.out)["checks"]
    assert [check for check in checks if check["id"] == "check-failed"] == []
    assert checks[-1]["group"] in ("guests", "host")
    assert any(check["state"] == "problem" for check in checks) is bool(said.code)


def require_text(said: Said) -> None:
    """The same for a person."""
    for line in said.out.split("\n"):
        assert line.isprintable(), ascii(line[:500])
    assert said.out.rpartition("\n\n")[2].startswith(("No problems", "1 problem", "2 problem", "3 problem"))


@pytest.mark.parametrize("version", ["7.2", "6.1"])
@pytest.mark.parametrize("xml", [WANTED, ANY], ids=["ids", "criteria"])
def test_any_answer_of_the_kernel(version: str, xml: bytes, tmp_path: Path) -> None:
    machine = a_machine(version)
    spoilt = spoil(machine)
    (tmp_path / "guest.xml").write_bytes(xml)
    words = ["--sim", "x", "doctor", "--xml", str(tmp_path / "guest.xml")]
    with simulated(machine):
        require_report(run(*words, "--json"))
        asked, before = spoilt.asked, machine.snapshot()
        for number, question in enumerate(questions(asked)):
            for spoilt.answer in answers(question[0])[number % 3 :: 3]:
                spoilt.question = question
                try:
                    require_report(run(*words, "--json"))
                except AssertionError as error:
                    raise AssertionError(f"{question}: {spoilt.answer!r}") from error
            require_text(run(*words))
        assert machine.snapshot() == before


@pytest.mark.parametrize("way", FILES, ids=lambda way: "/".join(map(str, way)))
def test_any_file(tmp_path: Path, way: Way) -> None:
    path, xml = tmp_path / "host.json", tmp_path / "guest.xml"
    xml.write_bytes(WANTED)
    for value in KINDS[::SKIP]:
        path.write_text(json.dumps(changed(DOCUMENT, ("files", *way), value)))
        said = run("--sim", str(path), "doctor", "--xml", str(xml), "--json")
        if said.code == Exit.REQUEST and '"kind"' in said.out:
            continue  # no simulated host at all
        require_report(said)


@pytest.mark.parametrize(
    "text", ["", "\0", "[]", "{", '{"version": 1}', "\x1b[31m", "x" * 70000, "[reserve]\n" * 3]
)
@pytest.mark.parametrize(
    "file", ["etc/apvfio/apvfio.toml", "run/apvfio/ledger.json", "etc/udev/rules.d/41-ap.rules"]
)
def test_any_text(tmp_path: Path, file: str, text: str) -> None:
    path, xml = tmp_path / "host.json", tmp_path / "guest.xml"
    xml.write_bytes(WANTED)
    document = json.loads(json.dumps(DOCUMENT))
    document["files"][file] = text
    path.write_text(json.dumps(document))
    words = ["--sim", str(path), "doctor", "--xml", str(xml)]
    require_report(run(*words, "--json"))
    require_text(run(*words))

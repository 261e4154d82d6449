# SPDX-License-Identifier: Apache-2.0
"""Every case that was found by searching, kept: its name says what it once did."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.events.audit_log import AUDIT_LOG
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.definitions import FOLDER
from apvfio.store.ledger_file import LEDGER
from apvfio.store.policy_file import POLICY
from apvfio.store.toml_table import toml_parser
from faulty_sysfs import spoil
from hostile_input import HOSTDEV, MDEV, UUID, domain, prepare, require_line, run, simulated
from hosts import BOOT, IBM_DOMAINS
from memory_host import IBM_ADAPTERS, Machine

if TYPE_CHECKING:
    from hostile_input import Said

CORPUS = Path(__file__).parent / "corpus"
BARE = f"<domain><name>g</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()


def cases(subject: str) -> list[Any]:
    """The cases of one subject."""
    with open(CORPUS / f"{subject}.toml", "rb") as file:
        found = toml_parser().load(file)["case"]
    assert found
    return [pytest.param(case, id=case["name"]) for case in found]


def whole(text: str | list[list[Any]]) -> str:
    """The text of a case, which may be told in pieces."""
    return text if isinstance(text, str) else "".join(piece * times for piece, times in text)


def check(said: Said, case: dict[str, Any]) -> None:
    """It is answered as the case has it."""
    assert said.code == case["code"], said
    assert case["says"] in said.err + said.out
    for line in (said.err + said.out).splitlines(keepends=True):
        require_line(line)
    if said.code:
        assert said.err.count("\n") == 1


def start(case: dict[str, Any], xml: bytes, files: dict[str, str]) -> None:
    machine = Machine()
    machine.files.texts.update(files)
    before = machine.snapshot()
    check(prepare(machine, xml), case)
    assert machine.snapshot() == before
    machine.files.remove(AUDIT_LOG)  # which tells of a start that was refused
    assert machine.files.texts == files


def test_the_document_names_every_file_of_tests() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(test_\w+\.py)`", text)) == {
        path.name for path in CORPUS.parent.glob("test_*.py")
    }


@pytest.mark.parametrize("case", cases("annotation"))
def test_an_annotation(case: dict[str, Any]) -> None:
    start(case, whole(case["text"]).encode(), {})


@pytest.mark.parametrize("case", cases("policy"))
def test_a_policy(case: dict[str, Any]) -> None:
    start(case, domain(), {POLICY: whole(case["text"])})


@pytest.mark.parametrize("case", cases("ledger"))
def test_a_ledger(case: dict[str, Any]) -> None:
    start(case, domain(), {LEDGER: whole(case["text"]).replace("BOOT", BOOT)})


@pytest.mark.parametrize("case", cases("definition"))
def test_a_definition(case: dict[str, Any]) -> None:
    start(case, BARE, {f"{FOLDER}/{MDEV}": whole(case["text"])})


@pytest.mark.parametrize("case", cases("sysfs"))
def test_an_answer_of_sysfs(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kernel = SimKernel.new(profile=case.get("kernel", "7.2"), adapters=IBM_ADAPTERS, domains=IBM_DOMAINS)
    machine = Machine(kernel)
    assert prepare(machine, domain()).code == 0
    spoilt = spoil(machine)
    spoilt.question = ("read", case["read"]) if "read" in case else ("list", case["list"])
    spoilt.answer = getattr(errno, case["errno"]) if "errno" in case else whole(case["text"])
    before = machine.snapshot()
    with simulated(machine):
        said = run("--sim", "x", *case["words"])
    check(said, case)
    assert machine.snapshot() == before


@pytest.mark.parametrize("case", cases("words"))
def test_a_command_line(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create_sim("host.json", SimKernel.new())
    before = Path("host.json").read_bytes()
    words = [whole(word) for word in case["words"]]
    if case.get("surrogate"):
        words[-1] += "\udcff"
    check(run(*words), case)
    assert Path("host.json").read_bytes() == before

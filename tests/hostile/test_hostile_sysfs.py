# SPDX-License-Identifier: Apache-2.0
"""A sysfs that says what no kernel says, or nothing: whoever reads it tells so and does no harm."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.errors import Exit
from faulty_sysfs import ANY, WANTED, a_machine, answers, questions, spoil
from hostile_input import MORE, prepare, require_answer, require_line, run, simulated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hostile_input import Said
    from memory_host import Machine

SKIP = 1 if MORE > 1 else 16
"""Of so many answers to a question one is tried, another to the next question."""


def readers(machine: Machine, directory: Path) -> dict[str, Callable[[], Said]]:
    """All who look at a host and change nothing."""
    (directory / "guest.xml").write_bytes(WANTED)
    (directory / "any.xml").write_bytes(ANY)
    xml, requested, copy = (str(directory / name) for name in ("guest.xml", "any.xml", "copy.json"))
    words = {
        "status": ["status"],
        "status as JSON": ["status", "--json"],
        "queues": ["queues"],
        "plan": ["plan", "--xml", xml],
        "a wish's plan": ["plan", "--xml", requested],
        "all plans": ["plan", "--all", "--xml", xml, "--xml", requested],
        "masks": ["masks"],
        "mode": ["mode"],
        "dump": ["dump", copy, "--force"],
        "masks, dry": ["masks", "--dry-run", "apmask=-1"],
    }
    return {name: partial(run, "--sim", "x", *line) for name, line in words.items()}


@pytest.mark.parametrize("version", ["7.2", "6.1"])
def test_who_looks_at_it_is_told_and_changes_nothing(version: str, tmp_path: Path) -> None:
    machine = a_machine(version)
    spoilt = spoil(machine)
    tried = 0
    with simulated(machine):
        for name, read in readers(machine, tmp_path).items():
            spoilt.asked, spoilt.question = {}, ("", "")
            require_answer(read())
            asked, before = spoilt.asked, machine.snapshot()
            for number, question in enumerate(questions(asked)):
                for spoilt.answer in answers(question[0])[number % SKIP :: SKIP]:
                    spoilt.question = question
                    said = read()
                    tried += 1
                    try:
                        require_answer(said)
                    except AssertionError as error:
                        raise AssertionError(f"{name}: {question}: {spoilt.answer!r}") from error
            assert machine.snapshot() == before
    assert tried > 60


@pytest.mark.parametrize("version", ["7.2", "6.1"])
@pytest.mark.parametrize("xml", [WANTED, ANY], ids=["ids", "criteria"])
def test_a_guest_starts_or_is_refused(version: str, xml: bytes) -> None:
    machine = a_machine(version)
    start = machine.twin()
    begin = spoil(start)
    prepare(start, xml)
    prepare(start, xml, "release")
    prepare(start, xml, "reconnect")
    tried = 0
    for number, question in enumerate(questions(begin.asked)):
        for answer in answers(question[0])[number % SKIP :: SKIP]:
            twin = machine.twin()
            wrong = spoil(twin)
            wrong.question, wrong.answer = question, answer
            tried += 1
            for operation in ("prepare", "reconnect", "release"):
                said = prepare(twin, xml, operation)
                assert said.out == ""
                try:
                    assert said.code == Exit.OK or operation == "prepare"
                    if said.err:
                        require_line(said.err)
                except AssertionError as error:
                    raise AssertionError(f"{operation}: {question}: {answer!r}") from error
            # As soon as the kernel speaks the truth, all that is not the first guest's goes home.
            wrong.question = ("", "")
            assert prepare(twin, xml, "reconnect").code == Exit.OK
            with simulated(twin):
                require_answer(run("--sim", "x", "reconcile"))
            kept = {lease.guest for lease in twin.ledger.leases.values()}
            assert kept <= {"db1"}, (question, answer, kept)
    assert tried > 10


def test_a_tree_that_stands_for_a_host_may_hold_anything(tmp_path: Path) -> None:
    """Real files below --root: not UTF-8, endless, directories, fifos."""
    attribute = tmp_path / "sys/bus/ap/apmask"
    attribute.parent.mkdir(parents=True)
    for make in (
        lambda: attribute.write_bytes(b"\xff\xfe\0\x80" * 1000),
        lambda: attribute.write_bytes(b"f" * (3 << 20)),
        attribute.mkdir,
        lambda: os.mkfifo(attribute),
        lambda: os.symlink("/dev/zero", attribute),
        lambda: os.symlink("apmask", attribute),
        lambda: os.symlink("/proc/self/mem", attribute),
    ):
        make()
        said = run("--root", str(tmp_path), "status")
        assert said.code == Exit.HOST
        require_line(said.err)
        attribute.rmdir() if attribute.is_dir() else attribute.unlink()


def test_an_attribute_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    os.symlink("/dev/zero", tmp_path / "sys/x")
    with pytest.raises(OSError, match="too large"):
        RealSysfs(str(tmp_path)).read("x")

# SPDX-License-Identifier: Apache-2.0
"""Command lines of any kind, and guests of any name: answered in words, and nothing else is done."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.engine.start import start_guest
from apvfio.model.errors import Exit
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from command_line import COMMANDS, options
from hostile_input import (
    MDEV,
    Said,
    domain,
    prepare,
    require_answer,
    require_object,
    require_sentence,
    run,
    simulated,
    trying,
)
from hosts import a_request, guest, mdev
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = (
    "", "-x", "--", "--help", "../x", "..", "/", "/etc/passwd", "a\nb", "a\r\x1b[2J", "\x1b]0;x\x07",
    "\x7f", "\x9b31m", "\u202egpj.exe", "\u2066x\u2069", "\u200b", "\ufeff", "\udcff", "\ud800", "ü",
    "\U0001d524", "'", '"', "$(reboot)", "`x`", "%s%n", "{0}", "x" * 65_536, "NaN", "null", "0", guest(1),
    " ", "\t", "*",
)  # fmt: skip
"""Names of guests as the ledger and libvirt can have them."""
# What these do on a machine is not for a test of words; they need a daemon, a mount or a tree of their own.
ELSEWHERE = {"demo", "install", "uninstall", "sim mount"}
WORDS = (
    *(name for name in NAMES if name != "\ud800"),
    "apmask=-1",
    "aqmask=0x",
    "apmask=",
    "apmask=+1,-1",
    "=",
    "host.json",
    "guest.xml",
    "-",
    "dir",
    "9" * 5000,
)
WAITING = ("--connect", "--wait", "--follow")
TESTS_OWN = "test:///default"
"""libvirt's driver that needs no daemon and has one guest, test."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a simulated host and a guest's XML."""
    directory = tmp_path_factory.mktemp("words")
    create_sim(str(directory / "host.json"), SimKernel.new())
    (directory / "guest.xml").write_bytes(domain())
    (directory / "dir").mkdir()
    before = os.getcwd()
    os.chdir(directory)
    yield directory
    os.chdir(before)


def take(here: Path) -> dict[str, bytes]:
    """All files that are there."""
    return {name: (here / name).read_bytes() for name in sorted(os.listdir(here)) if (here / name).is_file()}


def restore(here: Path, files: dict[str, bytes]) -> None:
    for name in os.listdir(here):
        if name not in files and name != "dir":
            path = here / name
            path.unlink() if path.is_file() else shutil.rmtree(path)
    for name, data in files.items():
        (here / name).write_bytes(data)


@trying(250)
@given(st.data())
def test_any_words_for_any_command(here: Path, data: st.DataObject) -> None:
    files = take(here)
    command = data.draw(st.sampled_from([name for name in COMMANDS if name not in ELSEWHERE]))
    known = sorted(options(command))
    words = data.draw(st.lists(st.sampled_from([*known, *known, *WORDS]) | st.text(max_size=5), max_size=6))
    # Nothing below is sent to a daemon, and nobody waits for standard input or for a bus.
    words = [word for word in words if "\0" not in word and not word.startswith(("-c", "-f")) and word != "-"]
    words = [word for word in words if not any(option.startswith(word) for option in WAITING)]
    if "help" in " ".join(words) or "-h" in words:
        return
    libvirt = ["--connect", TESTS_OWN] if "--connect" in known else []
    said = told(["--sim", "host.json", *command.split(), *libvirt, *words])
    require_answer(said)
    if said.code in (Exit.USAGE, Exit.REQUEST):
        assert take(here) == files
    restore(here, files)


def told(words: list[str]) -> Said:
    """What a command says; that of ``--version`` ends by itself."""
    try:
        return run(*words)
    except SystemExit as end:
        return Said(int(end.code or 0), "", "")


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - ELSEWHERE))
@pytest.mark.parametrize(
    "word", ["x" * 65_536, "\x1b[31m\nx", "\udcff", "--\u202ex", "--json=\x1b", "--no-such\n"], ids=ascii
)
def test_a_word_too_many_is_told_in_a_line(here: Path, command: str, word: str) -> None:
    files = take(here)
    line = ["--sim", "host.json", *command.split(), word]
    require_answer(run(*line, "a", "b", "--none"))
    assert take(here) == files
    said = run(*line, "--json", "a", "b")
    if said.code and said.out:
        require_object(said)
    restore(here, files)


@pytest.mark.parametrize("words", [["--sim", ""], ["--root", ""], ["--sim="], ["--root="]])
def test_an_empty_name_of_a_host_is_not_this_machine(words: list[str]) -> None:
    require_sentence(run(*words, "status"), Exit.USAGE)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APVFIO_SIM", "")
    monkeypatch.setenv("APVFIO_ROOT", str(tmp_path))
    require_sentence(run("status"), Exit.HOST)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_a_guest_of_any_name(name: str) -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1")._replace(guest=name))
    another = domain('<ap:matrix adapters="0" domains="1"/>', uuid=guest(2), name="other").replace(
        MDEV.encode(), mdev(2).encode()
    )
    require_sentence(prepare(machine, another), Exit.CONFLICT)
    with simulated(machine):
        for words in (
            ["status"],
            ["queues"],
            ["status", "--color", "always"],
            ["masks", "--dry-run", "apmask=+0"],
        ):
            said = run("--sim", "x", *words)
            require_answer(said._replace(out=uncolored(said.out)))
        found = json.loads(run("--sim", "x", "status", "--json").out)
        assert [lease["guest"] for lease in found["leases"]] == [name]
        require_sentence(run("--sim", "x", "release", "--", f"{name}!"), Exit.REQUEST)
        # Nobody is called by the uuid of another, and whoever is can be named by his own.
        said = run("--sim", "x", "release", "--", name)
        assert said.code == Exit.OK
        assert machine.ledger.leases == {}


def uncolored(text: str) -> str:
    import re

    return re.sub("\x1b\\[[0-9;]*m", "", text)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_a_name_that_libvirt_does_not_know(here: Path, name: str) -> None:
    for words in (["guest", "show"], ["guest", "clear"], ["plan"], ["define"], ["undefine"]):
        said = run("--sim", "host.json", *words, "--connect", TESTS_OWN, "--", name)
        require_sentence(said, Exit.REQUEST, Exit.USAGE)

# SPDX-License-Identifier: Apache-2.0
"""The file of a simulated host, which may come from anybody: used as it is, or refused and left as it is."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.errors import Exit
from faulty_sysfs import full_host
from hostile_input import KINDS, MORE, require_answer, require_sentence, run, trying
from json_documents import Way, changed, kinds_of_places

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (
    ["status"],
    ["queues"],
    ["reconcile", "--json"],
    ["masks", "apmask=-1"],
    ["dump", "copy", "--force"],
)
SKIP = 1 if MORE > 1 else 4
DOCUMENT = full_host()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(path: Path, data: bytes) -> None:
    """Every command is served or refused; a file that is refused stays as it is."""
    for words in COMMANDS:
        path.write_bytes(data)
        said = run("--sim", str(path), *words)
        require_answer(said)
        if said.code == Exit.REQUEST and "understood" in said.err + said.out:
            assert path.read_bytes() == data
            return
    assert [name for name in os.listdir(path.parent) if name not in (path.name, "copy")] == []


@pytest.mark.parametrize("way", kinds_of_places(DOCUMENT), ids=lambda way: "/".join(map(str, way)) or "all")
def test_everything_in_it_replaced_by_every_kind_of_thing(here: Path, way: Way) -> None:
    first = sum(map(ord, "".join(map(str, way)))) % SKIP
    for value in KINDS[first::SKIP]:
        check(here / "host.json", json.dumps(changed(DOCUMENT, way, value)).encode())


@trying(60)
@given(st.data())
def test_bytes_of_it_are_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    text = json.dumps(DOCUMENT).encode()
    begin = data.draw(st.integers(0, len(text)))
    end = begin + data.draw(st.sampled_from([0, 1, 100, len(text)]))
    put = data.draw(
        st.binary(max_size=4) | st.sampled_from([b"{", b"[" * 5000, b"1e999", b"\\ud800", b"9" * 5000])
    )
    directory = tmp_path_factory.mktemp("sim")
    before = os.getcwd()
    os.chdir(directory)
    try:
        check(directory / "host.json", text[:begin] + put + text[end:])
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    "files",
    [
        {"run/apvfio/ledger.json": {"link": "/etc/passwd"}},
        {"run/apvfio/ledger.json/": ""},
        {"run/apvfio/": {"mode": "0777"}},
        {"run/apvfio": ""},
        {"etc/apvfio/apvfio.toml": {"link": "apvfio.toml"}},
        {"etc/apvfio/apvfio.toml/": ""},
        {"etc/udev/rules.d/41-ap.rules/": ""},
        {"etc/udev": "a file"},
        {"../../x": "up"},
        {"/etc/x": "rooted"},
        {"etc/\x1b\n": "terminal"},
        {"etc/\ud800": "surrogate"},
        {"etc/a\0b": "nul"},
        {"sys/x": "not ours"},
    ],
    ids=ascii,
)
def test_its_files_are_links_and_directories(here: Path, files: dict[str, Any]) -> None:
    check(here / "host.json", json.dumps({**DOCUMENT, "files": files}).encode())


def test_the_name_of_the_file_is_hostile(here: Path) -> None:
    (here / "dir").mkdir()
    os.mkfifo(here / "fifo")
    os.symlink("loop", here / "loop")
    os.symlink("/dev/zero", here / "zero")
    os.symlink("nowhere", here / "dangling")
    for name in (
        "dir",
        "fifo",
        "loop",
        "zero",
        "a\nb",
        "\x1b[31m",
        "x" * 300,
        "x/" * 40_000,
        "\udcff",
        "",
        "-x",
        "dir/../no",
    ):
        for words in (["status"], ["status", "--json"], ["masks", "apmask=-1"]):
            said = run(f"--sim={name}", *words)
            require_answer(said)
            assert said.code in (Exit.REQUEST, Exit.HOST, Exit.USAGE)
    for words in (["sim", "new", "dir"], ["sim", "new", "dir", "--force"], ["sim", "new", "fifo", "--force"]):
        require_sentence(run(*words), Exit.REQUEST, Exit.HOST)
    assert sorted(os.listdir(here)) == ["dangling", "dir", "fifo", "loop", "zero"]
    assert os.listdir(here / "dir") == []

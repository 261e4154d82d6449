# SPDX-License-Identifier: Apache-2.0
"""What is remembered of master keys, and what a file that is not apvfio's does to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import ApvfioError
from apvfio.model.matrix import Apqn
from apvfio.store import mkvps_note
from apvfio.store.files import RealFiles
from apvfio.store.mkvps_file import Reading, forget, load, tidy
from apvfio.store.mkvps_note import FULL, MKVPS, add

if TYPE_CHECKING:
    from pathlib import Path

Q, R = Apqn(10, 27), Apqn(0, 1)
KEY = "WK CUR: valid 0x" + "ab" * 32 + "\nWK NEW: empty -"
CCA = "AES CUR: valid 0x0123456789abcdef\nAES OLD: - -\nAPKA NEW: - -\n"
THEN = "2026-01-31T11:00:00.000+00:00"


@pytest.fixture
def files(tmp_path: Path) -> RealFiles:
    return RealFiles(str(tmp_path))


def test_what_is_shown_is_kept_with_its_time(files: RealFiles) -> None:
    assert load(files) == {}
    assert add(files, {Q: KEY, R: CCA})
    found = load(files)
    assert {queue: reading.registers for queue, reading in found.items()} == {
        Q: KEY,
        R: "AES CUR: valid 0x0123456789abcdef",
    }
    assert all(
        re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.000\+00:00", one.seen) for one in found.values()
    )


def test_the_last_reading_counts(files: RealFiles) -> None:
    add(files, {Q: KEY, R: CCA})
    add(files, {Q: "WK CUR: uninitialized -\nWK NEW: empty -"})
    assert load(files)[Q].registers == "WK CUR: uninitialized -\nWK NEW: empty -"
    assert len((files.read(MKVPS) or "").splitlines()) == 3


def test_a_queue_that_does_not_answer_keeps_what_it_showed(files: RealFiles) -> None:
    add(files, {Q: KEY})
    assert not add(files, {Q: "WK CUR: - -\nWK NEW: - -\n", R: ""})
    assert load(files)[Q].registers == KEY


def test_forgetting_some_and_all(files: RealFiles) -> None:
    add(files, {Q: KEY, R: CCA})
    assert forget(files, [Q, Apqn(5, 5)]).keys() == {Q}
    assert load(files).keys() == {R}
    assert forget(files).keys() == {R}
    assert load(files) == {}


def test_a_full_file_is_tidied_and_none_grows_without_end(files: RealFiles) -> None:
    add(files, {Q: KEY})
    tidy(files)
    line = f"{THEN} {R} WK CUR: valid 0x11\n"
    files.append(MKVPS, line * (FULL // len(line)))
    size = files.size(MKVPS)
    assert size > FULL
    tidy(files)
    assert files.size(MKVPS) < 300
    assert load(files)[R] == Reading(THEN, "WK CUR: valid 0x11")
    assert load(files)[Q].registers == KEY
    files.append(MKVPS, line * (5 * FULL // len(line)))
    size = files.size(MKVPS)
    add(files, {Q: KEY})
    assert files.size(MKVPS) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "x",
        f"{THEN} 0a.001b",
        f"{THEN} 0a.001b ",
        f"{THEN} 0a.001b WK CUR: valid \x1b[31m",
        f"{THEN} 0a.001b {'x' * 1001}",
        f"{THEN} a.1 WK CUR: valid 0x11",
        "2026-01-31 0a.001b WK CUR: valid 0x11",
        f"{THEN[:-6]}+01:00 0a.001b WK CUR: valid 0x11",
        f"{THEN} 0a.001b WK CUR: val"[:40],
    ],
)
def test_a_damaged_line_tells_nothing_or_less(files: RealFiles, text: str) -> None:
    files.append(MKVPS, f"{text}\n{THEN} {R} WK CUR: valid 0x11\n")
    found = load(files)
    assert found.pop(R) == Reading(THEN, "WK CUR: valid 0x11")
    assert all("valid" not in reading.registers for reading in found.values())


def test_a_file_that_cannot_be_used_stops_nothing_but_a_command_about_it(
    files: RealFiles, tmp_path: Path
) -> None:
    (tmp_path / MKVPS).mkdir(parents=True)
    add(files, {Q: KEY})
    tidy(files)
    with pytest.raises(ApvfioError):
        load(files)
    with pytest.raises(ApvfioError):
        forget(files)
    assert mkvps_note.now().endswith("+00:00")

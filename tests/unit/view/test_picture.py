# SPDX-License-Identifier: Apache-2.0
"""The picture of any host: each queue is drawn once, with its owner's mark, and the legend is true."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.owners import GUEST, HOST, Owner
from apvfio.model.queue_states import IN_USE, OFFLINE, QueueStates
from apvfio.view.columns import columns, cut, fold, padded
from apvfio.view.matrix_text import Look, matrix
from apvfio.view.picture import Picture, picture
from apvfio.view.status_report import status
from drawn_hosts import HOSTILE, a_report, pictures
from hosts import mdev

MARGIN = 9


def read_back(lines: list[str], mark_width: int) -> list[tuple[Apqn, str]]:
    """The queues and marks that a person finds in the picture, by its headings alone."""
    found: list[tuple[Apqn, str]] = []
    places: dict[int, int] = {}
    width = 0
    for number, line in enumerate(lines):
        row = re.match(r"  ([0-9a-f]{2}) [ 0-9]{3} ", line)
        if line.startswith("adapter  "):
            if number == 0:
                places = {m.start() + 1: int(m[0], 16) for m in re.finditer(r"\b[0-9a-f]{4}\b", line)}
                width = 3
            else:
                four = [heading.ljust(len(line)) for heading in lines[number - 3 : number + 1]]
                at = [i for i in range(MARGIN, len(line)) if line[i] != " "]
                places = {i: int("".join(heading[i] for heading in four), 16) for i in at}
                width = mark_width
        elif row:
            marks = {i: line[i : i + width].strip() for i in places}
            found += [(Apqn(int(row[1], 16), places[i]), mark) for i, mark in marks.items() if mark]
    return found


def legend(lines: list[str]) -> dict[str, str]:
    return {line.split()[0]: line for line in lines if re.search(r"  \d+ queues?(, |$)", line)}


@given(pictures(), st.integers(12, 240))
def test_every_queue_is_drawn_once_with_its_owners_mark(drawn: Picture, width: int) -> None:
    lines = list(matrix(drawn, Look(width=width)))
    end = max(i for i, line in enumerate(lines) if not line)  # before the legend
    expected = [(queue, drawn.legend[cell.owner].mark) for queue, cell in drawn.cells.items()]
    assert sorted(read_back(lines[:end], drawn.mark_width)) == expected


@given(pictures(), st.integers(1, 240), st.booleans())
def test_no_line_is_wider_than_the_terminal(drawn: Picture, width: int, utf8: bool) -> None:
    look = Look(width=width, utf8=utf8, folds=True)
    lines = list(status(a_report(drawn, drift=("guest g1: all is wrong " * 9,)), look))
    narrowest = MARGIN + drawn.mark_width + (drawn.mark_width > 1)
    assert max(map(columns, lines)) <= max(width, narrowest)
    assert all(line.isprintable() for line in lines)


@given(pictures())
def test_the_legend_tells_the_truth(drawn: Picture) -> None:
    devices = [owner.mdev for owner in drawn.legend if owner.mdev]
    assume(len(set(devices)) == len(devices))  # a device is one guest's, whatever its name
    assert sum(entry.queues for entry in drawn.legend.values()) == len(drawn.cells)
    for key in ("mark", "text"):
        shown = [getattr(entry, key) for entry in drawn.legend.values()]
        assert len(set(shown)) == len(shown), key
    for owner, entry in drawn.legend.items():
        mine = [cell for cell in drawn.cells.values() if cell.owner == owner]
        assert entry.queues == len(mine)
        assert dict(entry.states) == {s: n for s, n in Counter(cell.state for cell in mine).items() if s}


@given(pictures())
def test_color_adds_nothing_but_color(drawn: Picture) -> None:
    colored = list(matrix(drawn, Look(color=True)))
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in colored] == list(matrix(drawn, Look()))


@given(pictures(), st.integers(20, 120))
def test_a_terminal_without_utf8_gets_ascii_for_all_that_is_ours(drawn: Picture, width: int) -> None:
    text = "\n".join(matrix(drawn, Look(width=width, utf8=False)))
    names = "".join(entry.text for entry in drawn.legend.values())
    assert set(text) - set(names) <= set(map(chr, range(128)))


def a_full_host(guests: int = 0) -> Picture:
    found = dict.fromkeys(Matrix(IdSet(range(16)), IdSet(range(85))).queues(), HOST)
    found |= {queue: Owner(GUEST, f"g{i:02}", mdev(i)) for i, queue in zip(range(guests), found)}
    return picture(found, lambda queue: queue.domain == 84)


@pytest.mark.parametrize(("width", "blocks"), [(20, 11), (40, 4), (80, 2), (100, 2), (200, 1)])
def test_a_full_host_at_usual_widths(width: int, blocks: int) -> None:
    lines = list(matrix(a_full_host(), Look(width=width, folds=True)))
    assert sum(line.startswith("adapter") for line in lines) == blocks
    assert max(map(len, lines)) <= width
    assert legend(lines).keys() == {"·", "■"} if width > 40 else True


def test_many_guests_are_told_apart() -> None:
    drawn = a_full_host(guests=70)
    lines = list(matrix(drawn, Look(width=100)))
    found = read_back(lines, drawn.mark_width)
    marks = {mark for queue, mark in found if queue < Apqn(0, 70)}
    assert len(marks) == 70
    assert all(
        f"guest g{i:02}" in legend(lines)[drawn.legend[Owner(GUEST, f"g{i:02}", mdev(i))].mark]
        for i in range(70)
    )


def test_no_name_can_forge_a_line_of_the_legend() -> None:
    found = {
        Apqn(0, 0): Owner(GUEST, "db1  99 queues", mdev(1)),
        Apqn(0, 1): Owner(GUEST, "db1 99 queues", mdev(2)),
    }
    entries = [entry.text for entry in picture(found, lambda _: False).legend.values()]
    assert entries == [f"guest db1 99 queues, mdev {mdev(1)}", f"guest db1 99 queues, mdev {mdev(2)}"]


def test_names_that_are_cut_alike_are_shown_whole() -> None:
    found = {Apqn(0, i): Owner(GUEST, "production-database-" + end, mdev(i)) for i, end in enumerate("ab")}
    lines = "".join(matrix(picture(found, lambda _: False), Look(width=40, folds=True)))
    assert "production-database-a" in lines
    assert "production-database-b" in lines
    one = {Apqn(0, 0): Owner(GUEST, "production-database-a", mdev(1))}
    assert "productio…" in "".join(matrix(picture(one, lambda _: False), Look(width=30, folds=True)))


def test_states_are_counted_in_the_legend() -> None:
    found = {Apqn(0, i): HOST for i in range(3)} | {Apqn(1, i): Owner(GUEST, "g1", mdev(1)) for i in range(2)}
    seen = QueueStates({}, {Apqn(0, 0): OFFLINE, Apqn(1, 0): IN_USE, Apqn(1, 1): IN_USE})
    lines = list(matrix(picture(found, lambda _: False, seen), Look(utf8=False)))
    assert lines[-3:] == [
        "  a  guest g1  2 queues, all in use",
        "  .  host      3 queues, 1 offline",
        "  !  offline: 00.0000",
    ]


@given(st.text() | st.sampled_from(HOSTILE), st.integers(1, 30))
def test_folding_loses_nothing_but_blanks(text: str, width: int) -> None:
    text = "".join(c for c in text if c.isprintable())
    folded = list(fold(text, width))
    assert "".join("".join(folded).split()) == "".join(text.split())
    assert all(columns(line) <= max(width, 2) for line in folded)
    assert columns(cut(text, width)) <= max(width, columns(text) and 1)
    assert columns(padded(text, 300)) == max(300, columns(text))


def test_a_line_is_folded_at_blanks_and_goes_on_indented() -> None:
    assert list(fold("guest g1: adapters 0,10, domains 1-2", 20)) == [
        "guest g1: adapters",
        "    0,10, domains",
        "    1-2",
    ]
    assert list(fold("abcdefghijkl", 5, 0)) == ["abcde", "fghij", "kl"]
    assert list(fold("漢字漢字", 5, 0)) == ["漢字", "漢字"]
    assert list(fold("whole", None)) == ["whole"]
    assert (columns("漢"), columns("e\u0301"), cut("漢字漢", 4)) == (2, 1, "漢…")

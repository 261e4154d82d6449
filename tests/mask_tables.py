# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/masks.md, for the tests that hold them."""

from __future__ import annotations

from pathlib import Path

from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.mask_grammar import parse_list

MANUAL = Path(__file__).parents[1] / "docs" / "masks.md"
BEFORE = IdSet(range(10))
"""The mask that the manual's examples start from."""


def _rows(section: str, heading: str) -> list[list[str]]:
    text = MANUAL.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = text.partition(f"\n| {heading} |\n")[2].partition("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines()[1:]]
    assert rows, f"{MANUAL} has no table {heading!r} in {section!r}"
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def _mask(text: str) -> IdSet:
    return NO_IDS if text == "-" else parse_list(text)


EXITS = [
    (arguments.split(), int(theirs), int(ours))
    for arguments, theirs, ours, *_ in _rows("Exit codes", "arguments | chzdev | apvfio |")
]
"""What is given, chzdev's exit code and ours, where an apmask is stored and no aqmask."""
CHANGES = {text: _mask(after) for text, after in _rows("The grammar", "specification | the mask then")}
ERRORS = [text for text, _ in _rows("The grammar", "specification | because")]
DIFFERENCES = [
    (name, text, _mask(after))
    for name, text, after in _rows(
        "Where apvfio differs", "difference | specification | with chzdev the mask then"
    )
]

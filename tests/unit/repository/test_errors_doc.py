# SPDX-License-Identifier: Apache-2.0
"""docs/errors.md tells of every sentence that the source can say, under its exit code, and of no other."""

from __future__ import annotations

import re

from apvfio.cli.main import build_parser
from apvfio.model.errors import ApvfioError
from error_sentences import CHECKOUT, WARNING, Sentence, sentences, without_remedy
from exit_codes import EXIT_CODES
from source_texts import GAP

TEXT = (CHECKOUT / "docs/errors.md").read_text()
CHAPTERS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
ENTRY = re.compile(r"^- `(.+)`$", re.MULTILINE)


def plain(sentence: str) -> str:
    """A sentence with a gap for each value, whatever it is called, and one for those side by side."""
    return re.sub(rf"{GAP}( ?{GAP})+", GAP, re.sub(r"<[^<>]*>", GAP, sentence))


def told() -> set[Sentence]:
    """What the page tells of, by chapter."""
    return {
        Sentence(plain(entry), WARNING if chapter.startswith("Warnings") else int(chapter[0]))
        for chapter in CHAPTERS[1:]
        for entry in ENTRY.findall(chapter)
    }


def said() -> set[Sentence]:
    return {sentence._replace(text=plain(sentence.text)) for sentence in sentences()}


def test_every_sentence_has_its_entry() -> None:
    assert said() - told() == set()


def test_every_entry_is_a_sentence() -> None:
    assert told() - said() == set()


def test_every_entry_has_a_cause_and_a_cure() -> None:
    """After each list comes text."""
    for chapter in CHAPTERS[1:]:
        for block in re.split(r"^- `.+`\n", chapter, flags=re.MULTILINE)[1:]:
            following = block.strip().split("\n")[0]
            assert block.startswith("\n") is bool(following), block[:200]
            assert not following.startswith("#"), block[:200]


def test_no_entry_is_there_twice() -> None:
    for chapter in CHAPTERS:
        entries = [plain(entry) for entry in ENTRY.findall(chapter)]
        assert len(entries) == len(set(entries))


def test_every_error_says_what_to_do() -> None:
    """But for those that quote somebody else, and those that nobody is there to read."""
    others = {"libvirt refused: <>.", "the program that requested its start has ended."}
    completed = {
        "it was interrupted.",  # migration says where the guest is,
        "libvirt did not end the migration.",  # and what to do then
        "the process that migrates it through libvirt was killed.",
        "<>",
        "queues are moved by driver_override on this host.",  # the callout goes on
        "<>.",  # the doctor's checks have remedies of their own
        "<>: <>.",
        "<> could not be checked.",
    }
    assert set(without_remedy()) == others | completed


def test_every_exit_code_is_told_of_alike() -> None:
    """On the page, in the README, and by --help."""
    rows = dict(re.findall(r"^\| (\d+) \| (.*?) \|", TEXT, flags=re.MULTILINE))
    kinds: dict[str, set[str]] = {str(code): set() for code in EXIT_CODES.values()}
    tree: list[type[ApvfioError]] = [ApvfioError, *ApvfioError.__subclasses__()]
    for kind in tree:
        kinds[str(int(kind.code))].add(kind.kind)
    assert {code: set(re.findall(r"`(.*?)`", row)) for code, row in rows.items()} == kinds
    epilog = (build_parser().epilog or "").partition("exit codes:")[2]
    short = dict(re.findall(r"(\d+) ([a-z][a-z' ()]+)", epilog))
    assert set(short) == set(rows)
    readme = " ".join((CHECKOUT / "README.md").read_text().split())
    assert ", ".join(f"{code} {meaning}" for code, meaning in short.items()).strip() in readme

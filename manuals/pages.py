# SPDX-License-Identifier: Apache-2.0
"""The manual pages: the sections of each source, and those that its commands' parsers give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manuals import roff
from manuals.parsers import Command, commands

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parent
MAN = SOURCES.parent / "man"


class Source(NamedTuple):
    """One of the files in Markdown."""

    page: str
    """As apvfio.8."""
    names: list[str]
    """The names of the page; man(1) finds it by each."""
    summary: str
    """What the page is about."""
    commands: list[Command]
    """Those that the page is about, if any."""
    sections: dict[str, str]

    @classmethod
    def read(cls, path: Path, known: list[Command]) -> Source:
        """Read a source. Its title names commands; without a summary after it, the command's help is that."""
        _, title, *parts = re.split(r"^##? ", path.read_text(), flags=re.MULTILINE)
        names, _, summary = title.strip().partition(" - ")
        found: list[Command] = []
        for name in names.replace("-", " ").split(", ") if path.stem.endswith(".8") else ():
            first, *verbs = [c for c in known if f"{c.called} ".startswith(f"{name} ")]
            summary = summary or first.summary
            found += verbs if verbs and first.name else [first]
        return cls(path.stem, names.split(", "), summary, found, dict(part.split("\n", 1) for part in parts))


def pages() -> dict[str, str]:
    """Return each page by its name, and for further names of it a page that leads there."""
    known = list(commands())
    sources = [Source.read(path, known) for path in sorted(SOURCES.glob("*.md"))]
    summaries = {source.names[0]: source.summary for source in sources}
    found = {}
    for source in sources:
        found[source.page] = roff.page(source.page, _lines(source, summaries))
        section = source.page[-1]
        found |= {f"{name}.{section}": f".so man{section}/{source.page}\n" for name in source.names[1:]}
    return found


def _lines(source: Source, summaries: dict[str, str]) -> Iterator[str]:
    names = ", ".join(source.names).replace("-", r"\-")
    yield from (".SH NAME", rf"{names} \- {source.summary}")
    if source.commands:
        yield ".SH SYNOPSIS"
    for command in source.commands:
        parts = (roff.inline(part).replace(" ", r"\~") for part in command.synopsis())
        yield from (f'.SY "{command.called}"', *parts, ".YS")
    place = "OPTIONS" if "OPTIONS" in source.sections else "DESCRIPTION"
    for title, text in source.sections.items():
        if title != "OPTIONS":
            yield from roff.blocks(f"## {title}\n{_with_summaries(text, summaries)}")
        if title == place and source.commands:
            yield ".SH OPTIONS"
            yield from _options(source)


def _with_summaries(text: str, summaries: dict[str, str]) -> str:
    """Return ``text``, in which each item that is only a page says what that page is about."""

    def described(item: re.Match[str]) -> str:
        summary = summaries[item[1]]
        return f"{item[0]}: {summary[0].upper()}{summary[1:]}."

    return re.sub(r"^- ([\w.-]+)\(8\)$", described, text, flags=re.MULTILINE)


def _options(source: Source) -> Iterator[str]:
    """Yield the options by command, and at the end those that several commands share."""
    added = _additions(source)
    listed: dict[str, list[tuple[str, str]]] = {}
    for command in source.commands:
        listed[command.called] = []
        for option in command.options():
            more = added.pop((command.called, option.name), "")
            listed[command.called].append((option.term, f"{option.text} {more}".rstrip()))
    if added:
        raise ValueError(f"{source.page}: no command has {', '.join(map(str, added))}")
    first, *others = listed.values()
    shared = [entry for entry in first if all(entry in other for other in others)]
    parts = {called: [one for one in entries if one not in shared] for called, entries in listed.items()}
    for title, entries in {**parts, "All of these commands": shared}.items():
        if entries and others:
            yield f".SS {title}"
        for term, text in entries:
            yield from roff.tagged(term, text)


def _additions(source: Source) -> dict[tuple[str, str], str]:
    """Return what a source adds to the texts of options, by command and option."""
    found: dict[tuple[str, str], str] = {}
    command = source.commands[0].called
    for block in re.split(roff.BETWEEN_BLOCKS, source.sections.get("OPTIONS", "").strip("\n")):
        if block.startswith("### "):
            command = block[4:]
        elif term := roff.TERM.fullmatch(block):
            found[command, term[1].strip("`")] = term[2]
    return found

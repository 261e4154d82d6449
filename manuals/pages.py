# SPDX-License-Identifier: Apache-2.0
"""The manual pages: the sections of each source, and those that its commands' parsers give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from manuals import roff
from manuals.parsers import Command, Option, commands

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
    """What the page is about, if its command does not say so."""
    sections: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read a source, whose title is as in "# apvfio-define, apvfio-undefine - what they do"."""
        _, title, *parts = re.split(r"^##? ", path.read_text(), flags=re.MULTILINE)
        names, _, summary = title.strip().partition(" - ")
        return cls(path.stem, names.split(", "), summary, dict(part.split("\n", 1) for part in parts))


def pages() -> dict[str, str]:
    """Return each page by its name, and for further names of it a page that leads there."""
    known = commands()
    sources = [Source.read(path) for path in sorted(SOURCES.glob("*.md"))]
    summaries = {f"{source.names[0]}({source.page[-1]})": _summary(source, known) for source in sources}
    found = {}
    for source in sources:
        found[source.page] = roff.page(source.page, _lines(source, known, summaries))
        section = source.page[-1]
        for name in source.names[1:]:
            found[f"{name}.{section}"] = f".so man{section}/{source.page}\n"
    return found


def _summary(source: Source, known: dict[str, Command]) -> str:
    return source.summary or known[_command(source.names[0])].summary


def _command(name: str) -> str:
    return name.removeprefix("apvfio").lstrip("-")


def _lines(source: Source, known: dict[str, Command], summaries: dict[str, str]) -> Iterator[str]:
    of_page: list[Command] = []
    if source.page.endswith(".8"):
        for name in map(_command, source.names):
            of_page += [known[verb] for verb in known[name].verbs] or [known[name]]
    yield ".SH NAME"
    names = ", ".join(name.replace("-", r"\-") for name in source.names)
    yield rf"{names} \- {_summary(source, known)}"
    if of_page:
        yield ".SH SYNOPSIS"
        yield from _synopsis(of_page)
    place = "OPTIONS" if "OPTIONS" in source.sections else "DESCRIPTION"
    for title, text in source.sections.items():
        if title != "OPTIONS":
            yield from roff.blocks(f"## {title}\n{_with_summaries(text, summaries)}")
        if title == place and of_page:
            yield ".SH OPTIONS"
            yield from _options(of_page, _additions(source.sections.get("OPTIONS", ""), of_page[0].called))


def _with_summaries(text: str, summaries: dict[str, str]) -> str:
    """Return ``text``, in which each item that is only a page says what that page is about."""
    return re.sub(r"^- ([\w.-]+\(8\))$", lambda m: f"{m[0]}: {_sentence(summaries[m[1]])}", text, flags=re.M)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _synopsis(of_page: list[Command]) -> Iterator[str]:
    for command in of_page:
        yield f'.SY "{command.called}"'
        yield from (roff.inline(part).replace(" ", r"\~") for part in command.synopsis())
        yield ".YS"


def _additions(text: str, command: str) -> dict[tuple[str, str], str]:
    """Return what a source adds to descriptions, by command and option."""
    found: dict[tuple[str, str], str] = {}
    key = (command, "")
    for block in re.split(roff.BETWEEN_BLOCKS, text.strip("\n")):
        if block.startswith("### "):
            command = block[4:]
        elif term := roff.TERM.fullmatch(block):
            key = (command, term[1].strip("`"))
            found[key] = term[2]
        elif block:
            found[key] += f"\n\n{block}"
    return found


def _options(of_page: list[Command], additions: dict[tuple[str, str], str]) -> Iterator[str]:
    """Yield the options by command, and at the end those that several commands share."""
    listed = {command.called: list(_described(command, additions)) for command in of_page}
    if additions:
        raise ValueError(f"no command of the page has {', '.join(map(str, additions))}")
    first, *others = listed.values()
    shared = [entry for entry in first if all(entry in other for other in others)]
    for called, entries in listed.items():
        own = [entry for entry in entries if entry not in shared]
        yield from _entries(own, f".SS {called}")
    yield from _entries(shared, ".SS All of these commands" if others else "")


def _entries(entries: list[Option], heading: str) -> Iterator[str]:
    if entries and heading:
        yield heading
    for entry in entries:
        yield from roff.tagged(entry.term, entry.text)


def _described(command: Command, additions: dict[tuple[str, str], str]) -> Iterator[Option]:
    """Yield the options with what the source adds, which is taken out of the additions."""
    for option in command.options():
        more = additions.pop((command.called, option.name), "")
        yield option._replace(text=f"{option.text} {more}".rstrip())

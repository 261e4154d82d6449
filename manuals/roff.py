# SPDX-License-Identifier: Apache-2.0
"""The Markdown of the sources as roff, with the macros of man(7).

A source has headings, paragraphs, indented examples, and lists. An item that begins with a term, as in
"- `--json`: Print JSON.", becomes a tagged paragraph; a paragraph that two blanks indent continues an item.
In `code`, words in capitals such as FILE are set as values, and paths as names of files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BETWEEN_BLOCKS = r"\n\n+|\n(?=- )"
TERM = re.compile(r"- ((?:`[^`]+`|[\w.-]+\(\d\))(?:, `[^`]+`)*)(?:: (.*))?", re.DOTALL)
_MARKS = re.compile(r"`([^`]+)`|\*([^*]+)\*|([\w.-]+)\((\d)\)")
_VALUE = re.compile(r"((?<![\w.-])[A-Z][A-Z-]+(?![\w.-]))")
_ESCAPES = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "^": r"\(ha", "~": r"\(ti", "`": r"\(ga"}
)
_KINDS = {"5": "File formats", "7": "Conventions", "8": "System administration"}


def page(name: str, lines: Iterator[str]) -> str:
    """Return the page ``name``, such as apvfio.8, whose lines after the heading are given."""
    title, _, section = name.rpartition(".")
    head = (
        '.\\" SPDX-License-Identifier: Apache-2.0',
        f'.\\" Made by python3 -m manuals from manuals/{name}.md and the parsers in apvfio/cli.',
        ".nr HY 0",
        f'.TH {title.upper()} {section} "" apvfio "{_KINDS[section]}"',
        ".ad l",
    )
    text = "".join(f"{line}\n" for line in (*head, *lines))
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", text, flags=re.MULTILINE)  # a heading ends a paragraph


def blocks(text: str) -> Iterator[str]:
    """Yield the lines of a text in Markdown."""
    for block in re.split(BETWEEN_BLOCKS, text.strip("\n")):
        if block.startswith("#"):
            marks, title = block.split(" ", 1)
            yield f".{'SH' if marks == '##' else 'SS'} {inline(title)}"
        elif block.startswith("    "):
            yield from (
                ".PP",
                ".RS 4",
                ".EX",
                *(_literal(line[4:]) for line in block.split("\n")),
                ".EE",
                ".RE",
            )
        elif term := TERM.fullmatch(block):
            yield from tagged(term[1], term[2] or "")
        elif block.startswith("- "):
            yield from (r".IP \(bu 2", inline(block[2:]))
        elif block:
            yield from (".IP" if block.startswith(" ") else ".PP", inline(block))


def tagged(term: str, text: str) -> Iterator[str]:
    """Yield the lines of an item: its term, and a text that may have several paragraphs."""
    first, *more = text.split("\n\n")
    yield from (".TP", inline(term), inline(first))
    for paragraph in more:
        yield from (".IP", inline(paragraph))


def inline(text: str) -> str:
    """Return a paragraph, each sentence and each part after a hard break on a line of its own."""
    parts = (_marked(" ".join(part.split())) for part in text.split("\\\n"))
    return "\n.br\n".join(re.sub(r"(?<=[\w)]\.) (?=[A-Z\\])", "\n", part) for part in parts)


def _marked(text: str) -> str:
    done, end = "", 0
    for mark in _MARKS.finditer(text):
        code, word, manual, section = mark.groups()
        done += text[end : mark.start()].replace("\\", r"\e")
        if code:
            done += _code(code)
        else:
            done += rf"\fI{_literal(word)}\fR" if word else rf"\fB{_literal(manual)}\fR({section})"
        end = mark.end()
    done += text[end:].replace("\\", r"\e")
    return rf"\&{done}" if done.startswith((".", "'")) else done


def _code(text: str) -> str:
    if text.startswith("/"):
        return rf"\fI{_literal(text)}\fR"
    # What stands between parentheses in the pattern are the odd parts.
    parts = enumerate(_VALUE.split(text))
    return "".join(rf"\f{'I' if i % 2 else 'B'}{_literal(part)}\fR" for i, part in parts if part)


def _literal(text: str) -> str:
    line = text.translate(_ESCAPES)
    return rf"\&{line}" if line.startswith((".", "'")) else line

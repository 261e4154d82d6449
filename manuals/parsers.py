# SPDX-License-Identifier: Apache-2.0
"""The commands, as their parsers have them: synopsis and options of each, in the Markdown of the sources."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.main import build_parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Option(NamedTuple):
    """An option or an operand."""

    name: str
    """As --json or GUEST."""
    term: str
    text: str


class Command(NamedTuple):
    """A command, or a verb of one."""

    name: str
    """As 'guest set'; '' is the program itself."""
    parser: argparse.ArgumentParser
    summary: str
    """What the list of commands in --help says of it."""

    @property
    def called(self) -> str:
        """How a user calls it."""
        return f"apvfio {self.name}".strip()

    def synopsis(self) -> Iterator[str]:
        """Yield the parts of the synopsis after the command: operands, then options, then a subcommand."""
        groups = {
            a: g._group_actions for g in self.parser._mutually_exclusive_groups for a in g._group_actions
        }
        for action in sorted(self.parser._actions, key=_rank):
            group = groups.get(action, [action])
            if action is group[0] and not isinstance(action, argparse._HelpAction):
                part = " | ".join(
                    " ".join([*_marked(one.option_strings[-1:]), *_value(one)]) for one in group
                )
                yield f"[{part}]" if action.option_strings else part

    def options(self) -> Iterator[Option]:
        """Yield each operand and option; --help is listed with the program only."""
        values = [action.metavar for action in self.parser._actions if isinstance(action.metavar, str)]
        for action in sorted(self.parser._actions, key=_rank):
            known_to_all = isinstance(action, argparse._HelpAction) and self.name
            if not known_to_all and not isinstance(action, argparse._SubParsersAction):
                names = action.option_strings
                term = " ".join([", ".join(_marked(names)), *_value(action)]) if names else _operand(action)
                yield Option(str([action.metavar, *names][-1]), term, _described(action.help or "", values))


def _rank(action: argparse.Action) -> int:
    """Operands come first, and a subcommand last, since its own options follow it."""
    return 2 if isinstance(action, argparse._SubParsersAction) else 1 if action.option_strings else 0


def _marked(words: Iterable[str]) -> list[str]:
    return [f"`{word}`" for word in words]


def _operand(action: argparse.Action) -> str:
    return "|".join(_marked([action.metavar] if isinstance(action.metavar, str) else action.choices or ()))


def _value(action: argparse.Action) -> list[str]:
    name = _operand(action)
    shown = {"?": f"[{name}]", "*": f"[{name} ...]", argparse.PARSER: f"{name} [`ARGUMENT` ...]"}
    return [] if action.nargs == 0 else [shown.get(str(action.nargs), name)]


def _described(text: str, values: Iterable[str]) -> str:
    """Return a help text as a sentence in which commands, options and values are marked."""
    marks = "|".join(
        [r"'apvfio[^']*'", r"(?<![\w/'-])--?[a-z][a-z-]*", *(rf"\b{value}\b" for value in values)]
    )
    text = re.sub(marks, lambda match: "`{}`".format(match[0].strip("'")), text)
    return f"{text[:1].upper()}{text[1:]}."


def commands(
    name: str = "", parser: argparse.ArgumentParser | None = None, summary: str = ""
) -> Iterator[Command]:
    """Yield a command, the program itself by default, and everything below it."""
    parser = parser or build_parser()
    yield Command(name, parser, summary)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield from commands(
                    f"{name} {choice.dest}".strip(), action.choices[choice.dest], choice.help or ""
                )

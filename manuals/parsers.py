# SPDX-License-Identifier: Apache-2.0
"""The commands, as their parsers have them: synopsis and options of each, in the Markdown of the sources."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NamedTuple

from apvfio.cli.main import build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator


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

    @property
    def verbs(self) -> list[str]:
        """Its verbs, or none."""
        lists = [a for a in self.parser._actions if isinstance(a, argparse._SubParsersAction)]
        return [f"{self.name} {verb}" for verb in lists[0].choices] if lists and self.name else []

    def synopsis(self) -> Iterator[str]:
        """Yield the parts of the synopsis after the command: operands, then options, then a subcommand."""
        shown = [action for action in self.parser._actions if not isinstance(action, argparse._HelpAction)]
        for action in sorted(shown, key=_rank):
            exclusive = next(
                (g for g in self.parser._mutually_exclusive_groups if action in g._group_actions), None
            )
            among = exclusive._group_actions if exclusive else [action]
            if action is among[0]:
                part = " | ".join(" ".join(filter(None, (_word(one), _value(one)))) for one in among)
                yield f"[{part}]" if action.option_strings else part

    def options(self) -> Iterator[Option]:
        """Yield each operand and option; --help is listed with the program only."""
        values = {a.metavar for a in self.parser._actions if isinstance(a.metavar, str)}
        for action in sorted(self.parser._actions, key=_rank):
            if isinstance(action, argparse._SubParsersAction) or (
                self.name and isinstance(action, argparse._HelpAction)
            ):
                continue
            names = ", ".join(f"`{option}`" for option in action.option_strings)
            name = action.option_strings[-1] if names else str(action.metavar or action.dest)
            term = f"{names} {_value(action)}".rstrip() if names else _name(action)
            yield Option(name, term, _described(action.help or "", values))


def _rank(action: argparse.Action) -> int:
    """Operands come first, and a subcommand last, since its own options follow it."""
    return 2 if isinstance(action, argparse._SubParsersAction) else 1 if action.option_strings else 0


def _word(action: argparse.Action) -> str:
    return f"`{action.option_strings[-1]}`" if action.option_strings else ""


def _value(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return f"`{action.metavar}` [`ARGUMENT` ...]"
    if action.nargs == 0:
        return ""
    name = _name(action)
    return {"?": f"[{name}]", "*": f"[{name} ...]"}.get(str(action.nargs), name)


def _name(action: argparse.Action) -> str:
    return f"`{action.metavar}`" if action.metavar else "|".join(f"`{word}`" for word in action.choices or ())


def _described(text: str, values: set[str]) -> str:
    """Return a help text as a sentence in which options and values are marked."""
    text = re.sub(r"'(apvfio[^']*)'", r"`\1`", text)
    text = re.sub(r"(?<![\w/'-])--?[a-z][a-z-]*", r"`\g<0>`", text)
    for value in values:
        text = re.sub(rf"(?<![\w-]){re.escape(value)}(?![\w-])", f"`{value}`", text)
    return f"{text[:1].upper()}{text[1:]}."


def commands() -> dict[str, Command]:
    """Return every command and verb by its name."""
    return {command.name: command for command in _below(Command("", build_parser(), ""))}


def _below(command: Command) -> Iterator[Command]:
    yield command
    for action in command.parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for word, parser in action.choices.items():
                yield from _below(Command(f"{command.name} {word}".strip(), parser, told[word]))

# SPDX-License-Identifier: Apache-2.0
"""Every command and its options, as the parser itself has them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from apvfio.cli.main import build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

HELP = {"-h", "--help"}


def _parsers(
    parser: argparse.ArgumentParser, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and verb with its parser."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from _parsers(below, f"{name} {word}".strip())


PARSERS = dict(_parsers(build_parser()))
"""By command and verb, as 'guest set'; '' is the program itself."""
COMMANDS = sorted(name for name in PARSERS if name not in ("", "guest", "sim"))
"""Those that do something."""


def options(name: str) -> set[str]:
    """The options of a command, but for those that ask for help."""
    return {word for action in PARSERS[name]._actions for word in action.option_strings} - HELP

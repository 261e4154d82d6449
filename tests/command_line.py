# SPDX-License-Identifier: Apache-2.0
"""Every command and its options, as the parser itself has them."""

from __future__ import annotations

from manuals.parsers import commands

HELP = {"-h", "--help"}


PARSERS = {command.name: command.parser for command in commands()}
"""By command and verb, as 'guest set'; '' is the program itself."""
COMMANDS = sorted(name for name in PARSERS if name not in ("", "cluster", "guest", "keys", "policy", "sim"))
"""Those that do something."""


def options(name: str) -> set[str]:
    """The options of a command, but for those that print help."""
    return {word for action in PARSERS[name]._actions for word in action.option_strings} - HELP

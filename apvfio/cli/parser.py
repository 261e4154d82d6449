# SPDX-License-Identifier: Apache-2.0
"""The parser of the command line and of each command, which all help and complain alike."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from apvfio.cli.examples import EXAMPLES
from apvfio.model.errors import UsageError

if TYPE_CHECKING:
    _Action = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    _Action = argparse._SubParsersAction


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one of our errors, so that ``--json`` holds for it too."""

    def __init__(self, **words: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **words)
        self.register("action", "parsers", _Commands)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}.", remedy=f"See '{self.prog} --help'.")


class _Commands(_Action):
    """Commands, or the verbs of one: what the list says of each begins its own help, and examples end it."""

    def add_parser(self, name: str, **words: Any) -> argparse.ArgumentParser:
        told = words["help"]
        words.setdefault("description", f"{told[0].upper()}{told[1:]}.")
        _, *above = self._prog_prefix.split()
        return super().add_parser(name, epilog=examples(" ".join([*above, name])), **words)


def examples(command: str) -> str:
    """The end of a command's help."""
    lines = [f"  {line}\n" for line in EXAMPLES.get(command, "").splitlines()]
    return "".join(["examples:\n", *lines]) if lines else ""

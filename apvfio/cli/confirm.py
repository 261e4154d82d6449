# SPDX-License-Identifier: Apache-2.0
"""Ask for confirmation before a command that can do harm."""

from __future__ import annotations

import argparse
import sys

from apvfio.cli.verbosity import console
from apvfio.model.errors import ApvfioError, UsageError


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the option ``--yes``."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def confirm(args: argparse.Namespace, question: str) -> None:
    """Return if the user agrees, or has with ``--yes``.

    ApvfioError if the answer is anything but yes, UsageError if there is no terminal to ask on.
    """
    if args.yes:
        return
    if not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(
            f"{args.command} asks for confirmation, but standard input is not a terminal.",
            remedy="Check the output of --dry-run, then add --yes.",
        )
    print(f"{question} [y/N] ", end="", file=console(args), flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ApvfioError("the answer was not yes.", remedy="Nothing was changed.")

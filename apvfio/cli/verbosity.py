# SPDX-License-Identifier: Apache-2.0
"""``--quiet`` and ``--verbose``: a command that prints its errors only, or each step as it is done."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from apvfio.cli.terminal import print_lines
from apvfio.kernel.announced_sysfs import AnnouncedSysfs
from apvfio.model.errors import UsageError, printable

if TYPE_CHECKING:
    from typing import TextIO

    from apvfio.kernel.seam import Sysfs

_LONGEST = 1000


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Give ``parser``, of a command that changes something, the option ``--quiet``."""
    _add_quiet(parser)


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Give ``parser``, of a command that writes to the kernel, ``--quiet`` and ``--verbose``."""
    group = parser.add_mutually_exclusive_group()
    _add_quiet(group)
    group.add_argument(
        "-v", "--verbose", action="store_true", help="also print each step, on standard error, as it is done"
    )


def _add_quiet(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")


def run(args: argparse.Namespace) -> int:
    """Run the command that ``args`` name, as quietly as they say; its exit code."""
    code: int
    if not getattr(args, "quiet", False):
        code = args.run(args)
        return code
    if getattr(args, "json", False):
        raise UsageError("--quiet and --json exclude each other.", remedy="Choose one of them.")
    args.console = sys.stderr
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        code = args.run(args)
    return code


def console(args: argparse.Namespace) -> TextIO:
    """Return where errors and questions go, which ``--quiet`` does not silence."""
    found: TextIO = getattr(args, "console", sys.stderr)
    return found


def announced(sysfs: Sysfs) -> Sysfs:
    """Return ``sysfs``, each write of which is printed on standard error before it is made."""
    return AnnouncedSysfs(sysfs, _print_write)


def _print_write(path: str, text: str) -> None:
    print_lines([f"apvfio: echo {printable(text.strip(), _LONGEST)} > /sys/{path}"], sys.stderr)

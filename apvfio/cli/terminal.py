# SPDX-License-Identifier: Apache-2.0
"""What the terminal can show, and output limited to that."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING

from apvfio.view.matrix_text import Look
from apvfio.view.paint import YELLOW, painted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_COLORS = ("auto", "always", "never")
_DUMB = "dumb"


def add_color(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option ``--color`` to ``parser``; ``what`` is what it colors."""
    parser.add_argument(
        "--color",
        choices=_COLORS,
        default="auto",
        help=f"color {what} (default: auto: on a terminal, unless NO_COLOR is set)",
    )


def look(color: str) -> Look:
    """How to draw on standard output; ``color`` is the option's value. NO_COLOR counts where it is auto."""
    return Look(
        width=shutil.get_terminal_size().columns,
        utf8=(sys.stdout.encoding or "ascii").lower().replace("-", "") == "utf8",
        color=wants_color(sys.stdout, color),
        folds=sys.stdout.isatty(),
    )


def wants_color(file: TextIO, color: str = "auto") -> bool:
    """Return whether output to ``file`` gets colors; ``color`` is the option's value."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == _DUMB
    return color == "always" or (color == "auto" and not plain and file.isatty())


def warn(warning: str) -> None:
    """Print a warning on standard error."""
    head = painted("apvfio: warning:", YELLOW, on=wants_color(sys.stderr))
    print_lines([f"{head} {warning}"], sys.stderr)


def can_draw(file: TextIO) -> bool:
    """Return whether ``file`` is a terminal in which earlier output can be overwritten."""
    return file.isatty() and os.environ.get("TERM", _DUMB) != _DUMB


def print_lines(lines: Iterable[str], file: TextIO | None = None, end: str = "\n") -> None:
    """Print text that may contain foreign names; characters that the terminal cannot show become ``?``."""
    file = file or sys.stdout
    encoding = file.encoding or "ascii"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding), file=file, end=end)

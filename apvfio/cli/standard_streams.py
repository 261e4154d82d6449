# SPDX-License-Identifier: Apache-2.0
"""Standard input, output and error of the process ``apvfio``, which may be full or closed.

Standard output is written line by line, so that the reader of a pipe sees each line at once. Python would
report an output that fails only when it ends, with a traceback and exit code 120.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn, TextIO

LEFT = (BrokenPipeError, ConnectionResetError)
"""The reader of a pipe or socket has ended."""


class OutputError(ApvfioError):
    """Standard output cannot be written. The command may have done its work nevertheless."""


@contextmanager
def output() -> Iterator[None]:
    """Around a write to standard output: its failure is an OutputError, unless the reader has ended."""
    try:
        yield
    except LEFT:
        raise
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written: {error.strerror}.",
            remedy="Send it elsewhere; 'apvfio status' shows what the command has done.",
        ) from None


class _Output(io.TextIOWrapper):
    """Standard output."""

    # Not the raw file's: a SIGINT between its write and its return would have the same bytes written again.

    def write(self, text: str, /) -> int:
        with output():
            return super().write(text)

    def flush(self) -> None:
        with output():
            super().flush()


class _Error(io.TextIOWrapper):
    """Standard error: a write that fails changes nothing, since there is no place to report it."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def guard() -> None:
    """Replace Python's standard streams by those of this module."""
    for number in range(3):
        _fill(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  (it lives as long as the process)
    sys.stdout = _Output(_buffer(1), _encoding(sys.stdout), "replace", line_buffering=True)
    sys.stderr = _Error(_buffer(2), _encoding(sys.stderr), "backslashreplace", line_buffering=True)


def finish(code: int) -> NoReturn:
    """End the process with ``code``; the rest of the output may turn success into a failure."""
    try:
        sys.stdout.flush()
    except (OutputError, *LEFT) as error:
        if not code and isinstance(error, OutputError):
            print(f"apvfio: {error}", file=sys.stderr)
        code = code or OutputError.code
    sys.stderr.flush()
    os._exit(code)


def _fill(number: int) -> None:
    """Open a closed descriptor so that its use fails; otherwise the next file opened would get its number."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDONLY if number else os.O_WRONLY)


def _buffer(number: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(number, "w", closefd=False))


def _encoding(old: TextIO | None) -> str | None:
    return old.encoding if old else None

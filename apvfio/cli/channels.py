# SPDX-License-Identifier: Apache-2.0
"""Standard input, output and error of the process ``apvfio``, whatever they are: full, closed, or nobody's.

Standard output is written line by line, so that the reader of a pipe sees each line at once. Python would
report an output that fails only when it ends, with a traceback and exit code 120.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from apvfio.errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TextIO

    from _typeshed import ReadableBuffer

LEFT = (BrokenPipeError, ConnectionResetError)
"""The reader of a pipe or socket has ended."""


class _Output(io.FileIO):
    """Standard output: a write that fails is an error of apvfio's, unless the reader has ended."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except LEFT:
            raise
        except OSError as error:
            raise OutputError(
                f"standard output cannot be written: {error.strerror}.",
                remedy="Send it elsewhere; 'apvfio status' shows what the command has done.",
            ) from None


class _Error(io.FileIO):
    """Standard error: a write that fails changes nothing, since there is no place to report it."""

    def write(self, data: ReadableBuffer, /) -> int:
        with suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


def guard() -> None:
    """Replace Python's standard streams by those of this module."""
    for number in range(3):
        _fill(number)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  (it lives as long as the process)
    sys.stdout = _stream(_Output(1, "w", closefd=False), sys.stdout, "replace")
    sys.stderr = _stream(_Error(2, "w", closefd=False), sys.stderr, "backslashreplace")


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


def _stream(raw: io.FileIO, old: TextIO | None, errors: str) -> io.TextIOWrapper:
    encoding = old.encoding if old else None
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)

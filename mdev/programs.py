# SPDX-License-Identifier: Apache-2.0
"""Programs of this machine, run with a fixed path and a clean environment, without a shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
PATIENCE = 120.0
"""Seconds; mdevctl may wait 99 s in ap-check for the lock of s390-tools."""

_ENDING = 1.0
"""Seconds between SIGTERM and SIGKILL."""


class ProgramError(Exception):
    """A program could not be started or did not end in time; the message is a clause that says why."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code
        """The exit codes of a shell and of timeout(1)."""


def find(name: str) -> str | None:
    """Return where the program is, None if it is not installed."""
    places = (os.path.join(directory, name) for directory in PATH.split(":"))
    return next((place for place in places if os.access(place, os.X_OK)), None)


def run(
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float = PATIENCE,
    more: Mapping[str, str] | None = None,
    shielded: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, however it ends, with ``more`` in its environment.

    Ctrl-C at the terminal does not reach a ``shielded`` one. ProgramError if it cannot be started or takes
    longer than ``timeout`` seconds.
    """
    command = words[0]
    try:
        command = _path(command)
        process = _begin([command, *words[1:]], {**(more or {}), **ENVIRONMENT}, shielded=shielded)
        with process:
            try:
                output, errors = process.communicate(stdin, timeout)
            except BaseException:
                _end(process)
                raise
        return subprocess.CompletedProcess(words, process.returncode, output, errors)
    except (OSError, ValueError) as error:
        raise ProgramError(f"{command}: {getattr(error, 'strerror', None) or error}", 127) from None
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{command} did not end within {timeout:.0f} s", 124) from None


def start(words: Sequence[str], *, more: Mapping[str, str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command that Ctrl-C at the terminal does not reach, with pipes to and from it.

    ``more`` is added to its environment, and its standard error goes to ``errors``. ProgramError if it cannot
    be started.
    """
    command = _path(words[0])
    try:
        return _begin([command, *words[1:]], {**more, **ENVIRONMENT}, shielded=True, errors=errors)
    except (OSError, ValueError) as error:
        raise ProgramError(f"{command}: {getattr(error, 'strerror', None) or error}", 127) from None


def _path(command: str) -> str:
    """The path of ``command``, which may be a path already; ProgramError if it is not installed."""
    path = command if "/" in command else find(command)
    if not path:
        raise ProgramError(f"{command} is not installed", 127)
    return path


def _begin(
    words: Sequence[str],
    env: Mapping[str, str],
    *,
    shielded: bool,
    errors: IO[bytes] | int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    # A child inherits which signals are blocked, and ssh leaves that as it is.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT} if shielded else ())
    try:
        return subprocess.Popen(  # noqa: S603  (a list, no shell)
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and let it put the terminal in order first, which ssh does not do if it is killed."""
    process.terminate()
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()


def ask(words: Sequence[str]) -> tuple[int, str]:
    """Run a command; return its exit code and its output on both streams, or why it could not be run."""
    try:
        done = run(words)
    except ProgramError as error:
        return error.code, str(error)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace").strip()


def version(*words: str) -> tuple[int, ...] | None:
    """Return the first version number that the command prints, as (6, 5, 0); None if it prints none."""
    code, text = ask(words)
    found = re.search(r"\b(\d+(?:\.\d+)+)", text) if code == 0 else None
    return tuple(map(int, found[1].split("."))) if found else None

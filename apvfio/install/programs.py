# SPDX-License-Identifier: Apache-2.0
"""The programs of this machine that an installation asks or tells, run with a fixed path."""

from __future__ import annotations

import os
import re
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C.UTF-8"}
_PATIENCE = 120


def find(name: str) -> str | None:
    """Where the program is, None if it is not installed."""
    places = (os.path.join(directory, name) for directory in _PATH.split(":"))
    return next((place for place in places if os.access(place, os.X_OK)), None)


def run(words: Sequence[str]) -> tuple[int, str]:
    """Run a command; its exit code, 127 if it cannot be run, and what it printed, on both streams."""
    command = find(words[0]) if "/" not in words[0] else words[0]
    if command is None:
        return 127, f"{words[0]} is not installed"
    try:
        done = subprocess.run(  # noqa: S603  (words, no shell)
            [command, *words[1:]],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except OSError as error:
        return 127, f"{command}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return 124, f"{command} did not end within {_PATIENCE} s"
    return done.returncode, done.stdout.strip()


def version(*words: str) -> tuple[int, ...] | None:
    """The first version number that the command prints, as (6, 5, 0); None if it prints none."""
    code, text = run(words)
    found = re.search(r"\b(\d+(?:\.\d+)+)", text) if code == 0 else None
    return tuple(map(int, found[1].split("."))) if found else None

# SPDX-License-Identifier: Apache-2.0
"""What an installation has put where, so that its removal takes that and nothing else."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from apvfio.errors import ApvfioError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.system import Files

RECORD = "var/lib/apvfio/installed.json"


class Record(NamedTuple):
    """Paths below the root, without a leading slash, in the order in which they were made."""

    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    """Those that were not there before."""


def load(files: Files) -> Record:
    """The record, an empty one where nothing is installed; ApvfioError if it cannot be understood."""
    text = files.read(RECORD)
    if text is None:
        return Record()
    try:
        found = json.loads(text)
        return Record(_paths(found["files"]), _paths(found["directories"]))
    except (ValueError, KeyError, TypeError):
        raise ApvfioError(
            f"/{RECORD} is damaged.", remedy="Remove it; 'apvfio install' makes a new one."
        ) from None


def save(files: Files, record: Record) -> None:
    """Keep the record."""
    files.write(RECORD, json.dumps(record._asdict(), indent=1) + "\n")


def _paths(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        raise ValueError("no list of paths")
    if any(os.path.normpath(path) != path or path.startswith(("/", "..")) for path in found):
        raise ValueError("a path that leads elsewhere")
    return tuple(found)

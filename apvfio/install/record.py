# SPDX-License-Identifier: Apache-2.0
"""What an installation has put where, so that its removal takes that and nothing else."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from apvfio.errors import ApvfioError
from apvfio.install.tree import apply, missing_directories, prune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.install.tree import Found
    from apvfio.system import Files

RECORD = "var/lib/apvfio/installed.json"


class Record(NamedTuple):
    """Paths below the root, without a leading slash."""

    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    """Those that were not there before, parents first."""


def load(files: Files) -> Record:
    """The record, an empty one where nothing is installed; ApvfioError if it cannot be understood."""
    text = files.read(RECORD)
    if text is None:
        return Record()
    try:
        found = json.loads(text)
        return Record(_paths(found["files"]), _paths(found["directories"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ApvfioError(
            f"/{RECORD} is damaged.", remedy="Remove it; 'apvfio install' makes a new one."
        ) from None


def change(root: str, files: Files, record: Record, found: list[Found]) -> None:
    """Make the tree what ``found`` says it shall be, and keep the record of it.

    The record comes first: whatever happens in the midst, all that was put there can be removed.
    """
    kept = [path for path, _, item in found if item]
    made = missing_directories(root, [*kept, RECORD]) if kept else []
    during = Record(_union(kept, record.files), _union(record.directories, made))
    if kept and during != record:
        _save(files, during)
    apply(root, found)
    if kept:
        after = Record(tuple(kept), tuple(prune(root, during.directories)))
        if after != during:
            _save(files, after)
    else:
        files.remove(RECORD)
        prune(root, during.directories)


def _save(files: Files, record: Record) -> None:
    files.write(RECORD, json.dumps(record._asdict(), indent=1) + "\n")


def _union(*parts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for part in parts for path in part))


def _paths(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        raise ValueError("no list of paths")
    if any(not path or os.path.normpath(path) != path or path.startswith(("/", "..")) for path in found):
        raise ValueError("a path that leads elsewhere")
    return tuple(found)

# SPDX-License-Identifier: Apache-2.0
"""The record of installed files, so that a removal takes these files and nothing else."""

from __future__ import annotations

import json
import os
from fnmatch import fnmatch
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from apvfio.install.file_changes import FOREIGN, SAME, apply, clean, digest, missing_directories, prune
from apvfio.model.errors import ApvfioError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apvfio.install.file_changes import Found
    from apvfio.kernel.seam import Files

RECORD = "var/lib/apvfio/installed.json"
_OWN = os.path.dirname(RECORD)


class Record(NamedTuple):
    """Paths below the root, without a leading slash."""

    files: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Each file with the digests of its possible contents: two while it is being replaced."""
    directories: tuple[str, ...] = ()
    """Those that were not there before, parents first."""
    unfinished: bool = False
    """Whether a call has begun to change the files and has not come to `finish`."""


def load(files: Files) -> Record:
    """The record, an empty one where nothing is installed; ApvfioError if it cannot be understood."""
    text = files.read(RECORD)
    if text is None:
        return Record()
    try:
        found = json.loads(text)
        digests = found["files"]
        return Record(
            {path: _texts(digests[path]) for path in _paths(list(digests))},
            _paths(found["directories"]),
            found["unfinished"] is not False,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ApvfioError(
            f"/{RECORD} is damaged.", remedy="Remove it; 'apvfio install' makes a new one."
        ) from None


def change(root: str, files: Files, record: Record, found: list[Found]) -> Record:
    """Change the tree as ``found`` demands, and return the new record.

    The record is written first, and `finish` comes last. The next call can therefore finish an interrupted
    one.
    """
    clean(root, [*record.files, *(each.path for each in found)])
    for name in files.list(_OWN):
        if fnmatch(name, f"{os.path.basename(RECORD)}.*.new"):
            files.remove(f"{_OWN}/{name}")
    kept = {path: (digest(item.text.encode()),) for path, _, item, _ in found if item}
    # The record itself is always apvfio's.
    made = [path for path in missing_directories(root, [*kept, RECORD]) if path != _OWN] if kept else []
    during = Record(
        {path: _union(record.files.get(path, ()), kept.get(path, ())) for path in {**kept, **record.files}},
        _union(record.directories, made),
        unfinished=True,
    )
    if kept and (during != record._replace(unfinished=True) or any(map(_changes, found))):
        _save(files, during)
    apply(root, found)
    own = (*_above(during), _OWN)
    there = set(prune(root, [path for path in during.directories if path not in own]))
    return Record(kept, tuple(path for path in during.directories if path in there or path in own), True)


def finish(root: str, files: Files, record: Record) -> None:
    """Record that all is done that belongs to a change; with no files left the record goes."""
    if record.files:
        if load(files) != record._replace(unfinished=False):
            _save(files, record._replace(unfinished=False))
    else:
        files.remove(RECORD)
        prune(root, [*_above(record), _OWN])


def _changes(found: Found) -> bool:
    return found.state not in (SAME, FOREIGN)


def _above(record: Record) -> list[str]:
    """The directories above our own that have been made for it."""
    return [path for path in record.directories if _OWN.startswith(f"{path}/")]


def _save(files: Files, record: Record) -> None:
    files.write(RECORD, json.dumps({**record._asdict(), "files": dict(record.files)}, indent=1) + "\n")


def _union(*parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for part in parts for path in part))


def _texts(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError("no list of texts")
    return tuple(found)


def _paths(found: object) -> tuple[str, ...]:
    paths = _texts(found)
    if any(not path or os.path.normpath(path) != path or path.startswith(("/", "..")) for path in paths):
        raise ValueError("a path that leads elsewhere")
    return paths

# SPDX-License-Identifier: Apache-2.0
"""Files put into a host's tree and taken out of it: whole, never through a link, nobody else's."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple

from apvfio.errors import ApvfioError, ConflictError, HostError
from apvfio.install.contents import MARK, Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NEW = "new"
SAME = "same"
CHANGED = "changed"
FOREIGN = "foreign"

_SIZE_LIMIT = 1 << 20
_KEPT = frozenset({"", "etc", "lib", "share", "usr", "local", "mdevctl.d", "scripts.d", "man", "hooks"})
"""Directories that stay when they are empty: they are the host's, or mdevctl's, which wants them."""
_KEPT_OF_MDEVCTL = ("callouts", "notifiers")


class Found(NamedTuple):
    """One file of the installation, and what is in its place."""

    item: Item
    state: str
    """`NEW`, `SAME`, `CHANGED` or, if it is not ours, `FOREIGN`."""


def look(root: str, items: Iterable[Item]) -> list[Found]:
    """What is where the ``items`` belong; HostError if that cannot be told."""
    return [Found(item, _state(root, item)) for item in items]


def put(root: str, found: Iterable[Found]) -> None:
    """Put new and changed files in their places; ConflictError, and nothing is done, for a foreign one."""
    found = list(found)
    for item, state in found:
        if state == FOREIGN:
            raise ConflictError(
                f"/{item.path} is there and not apvfio's.", remedy="Move it away, then install again."
            )
    for item, state in found:
        if state in (NEW, CHANGED):
            _put(root, item)


def remove(root: str, found: Iterable[Found]) -> list[str]:
    """Remove what is ours of the files, and directories left empty; the paths of the files removed."""
    gone = []
    for item, state in found:
        if state in (SAME, CHANGED):
            with _telling(item.path):
                os.unlink(os.path.join(root, item.path))
            gone.append(item.path)
            _prune(root, os.path.dirname(item.path))
    return gone


class _telling:  # noqa: N801  (a context manager, used as a function)
    """Turns OSError into ours, naming the path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: object, __: object) -> None:
        if isinstance(error, PermissionError):
            raise HostError(f"/{self._path}: {error.strerror}.", remedy="Run this as root.") from None
        if isinstance(error, OSError):
            raise ApvfioError(f"/{self._path}: {error.strerror}.", remedy="Mend it and try again.") from None


def _state(root: str, item: Item) -> str:
    path = os.path.join(root, item.path)
    with _telling(item.path):
        try:
            here = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return NEW
        if not stat.S_ISREG(here.st_mode) or here.st_size > _SIZE_LIMIT:
            return FOREIGN
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, encoding="utf-8", errors="replace") as file:
            text = file.read()
    if MARK not in text:
        return FOREIGN
    return SAME if text == item.text and stat.S_IMODE(here.st_mode) == item.mode else CHANGED


def _put(root: str, item: Item) -> None:
    target = os.path.join(root, item.path)
    # Beside the directory: libvirt runs every executable file in its own, whatever the name.
    new = f"{os.path.dirname(target)}.{os.path.basename(target)}.new"
    with _telling(item.path):
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(item.text)
                file.flush()
                os.fsync(fd)
                os.fchmod(fd, item.mode)
            os.replace(new, target)
        except OSError:
            os.unlink(new)
            raise


def _prune(root: str, directory: str) -> None:
    """Remove ``directory`` and those above it as long as they are empty and nobody's."""
    while os.path.basename(directory) not in _KEPT:
        if os.path.basename(directory) in _KEPT_OF_MDEVCTL:
            return
        try:
            os.rmdir(os.path.join(root, directory))
        except OSError:
            return
        directory = os.path.dirname(directory)

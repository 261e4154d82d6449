# SPDX-License-Identifier: Apache-2.0
"""Files put into a host's tree and taken out of it: whole, never through a link, nobody else's."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from typing import NamedTuple

from apvfio.errors import ApvfioError, ConflictError, HostError
from apvfio.install.contents import MARK, PACKAGED, Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NEW = "new"
SAME = "same"
CHANGED = "changed"
FOREIGN = "foreign"
OF_PACKAGE = "of the package"
OBSOLETE = "obsolete"

_SIZE_LIMIT = 1 << 20


class Found(NamedTuple):
    """One file that shall be there, or no longer, and what is in its place."""

    path: str
    state: str
    """`NEW`, `SAME`, `CHANGED`, `FOREIGN` if it is not ours,
    `OF_PACKAGE` if the package manager put it there, `OBSOLETE` if it is and shall go."""
    item: Item | None = None
    """What shall be there."""


def look(root: str, items: Iterable[Item], recorded: Iterable[str]) -> list[Found]:
    """What is where the ``items`` belong, and what is left of those ``recorded`` before."""
    wanted = {item.path: item for item in items}
    found = [Found(path, _state(root, item), item) for path, item in wanted.items()]
    for path in recorded:
        here = None if path in wanted else _read(root, path)
        if here:
            found.append(Found(path, OBSOLETE if MARK in here[0] else FOREIGN))
    return found


def require_ours(found: Iterable[Found]) -> None:
    """ConflictError if somebody else's file is where one of ours belongs."""
    for path, state, item in found:
        if item and state == OF_PACKAGE:
            raise ConflictError(
                f"apvfio is part of this host already, as a package: /{path} is the package's.",
                remedy="There is nothing to install but, with --callout, what mdevctl asks for queues.",
            )
        if item and state == FOREIGN:
            raise ConflictError(
                f"/{path} is there and not apvfio's.", remedy="Move it away, then install again."
            )


def missing_directories(root: str, paths: Iterable[str]) -> list[str]:
    """The directories to be made for ``paths``, parents first."""
    missing: dict[str, None] = {}
    for path in paths:
        above: list[str] = []
        while (path := os.path.dirname(path)) and not os.path.isdir(os.path.join(root, path)):
            above.insert(0, path)
        missing |= dict.fromkeys(above)
    return list(missing)


def apply(root: str, found: Iterable[Found]) -> None:
    """Put new and changed files in their places and remove obsolete ones; the rest is left alone."""
    for path, state, item in found:
        with _telling(path):
            if state == OBSOLETE:
                os.unlink(os.path.join(root, path))
            elif item and state in (NEW, CHANGED):
                _put(root, item)


def prune(root: str, directories: Iterable[str]) -> list[str]:
    """Remove the ``directories``, given parents first, that are empty; those that stay."""
    for path in reversed(list(directories)):
        with suppress(OSError):
            os.rmdir(os.path.join(root, path))
    return [path for path in directories if os.path.isdir(os.path.join(root, path))]


@contextmanager
def _telling(path: str) -> Iterator[None]:
    """Turn OSError into ours, naming the path."""
    try:
        yield
    except PermissionError as error:
        raise HostError(f"/{path}: {error.strerror}.", remedy="Run this as root.") from error
    except OSError as error:
        raise ApvfioError(f"/{path}: {error.strerror}.", remedy="Mend it and try again.") from error


def _state(root: str, item: Item) -> str:
    here = _read(root, item.path)
    if here is None:
        return NEW
    if here == (item.text, item.mode):
        return SAME
    if (PACKAGED if PACKAGED in item.text else MARK) in here[0]:
        return CHANGED
    return OF_PACKAGE if PACKAGED in here[0] else FOREIGN


def _read(root: str, path: str) -> tuple[str, int] | None:
    """Text and mode of what is there, None for nothing; the text is '' of what cannot be one of our files."""
    target = os.path.join(root, path)
    inside = os.path.join(os.path.realpath(root), "")
    with _telling(path):
        # A tree may have links that are meant for its own host, and lead into this one.
        if not os.path.join(os.path.realpath(os.path.dirname(target)), "").startswith(inside):
            raise HostError(
                f"the directory of /{path} leads out of {root} by a link.",
                remedy="Make the link relative, or replace it by a directory.",
            )
        try:
            here = os.lstat(target)
        except FileNotFoundError:
            return None
        mode = stat.S_IMODE(here.st_mode)
        if not stat.S_ISREG(here.st_mode) or here.st_size > _SIZE_LIMIT:
            return "", mode
        fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, encoding="utf-8", errors="replace") as file:
            return file.read(), mode


def _put(root: str, item: Item) -> None:
    target = os.path.join(root, item.path)
    for directory in missing_directories(root, [item.path]):
        os.mkdir(os.path.join(root, directory))
        # Whatever the caller's umask: others read manuals and units, too.
        os.chmod(os.path.join(root, directory), 0o755)  # noqa: S103
    # Beside the directory: libvirt runs every executable file in its own, whatever the name.
    new = f"{os.path.dirname(target)}.{os.path.basename(target)}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(item.text)
            file.flush()
            os.fchmod(fd, item.mode)
            os.fsync(fd)
        os.replace(new, target)
    except OSError:
        os.unlink(new)
        raise

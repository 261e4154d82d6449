# SPDX-License-Identifier: Apache-2.0
"""Write and remove files in a host's tree: whole files, never through a link, never another program's."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from errno import EBUSY, EEXIST, ENOENT, ENOTDIR, ENOTEMPTY
from typing import TYPE_CHECKING, NamedTuple

from apvfio.install.installed_files import MARK, PACKAGED, PREPARE_UNIT, Item
from apvfio.model.errors import ConflictError, HostError
from apvfio.store.safe_open import file_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NEW = "new"
SAME = "same"
CHANGED = "changed"
FOREIGN = "foreign"
OF_PACKAGE = "of the package"
OBSOLETE = "obsolete"
EDITED = "edited"

KEPT = "var/lib/apvfio/edited"
"""Where edited files are kept that an installation or a removal takes from their places."""
_PRIVATE = 0o600
_SIZE_LIMIT = 1 << 20


class Found(NamedTuple):
    """One file that must be there, or must not, and what is in its place."""

    path: str
    state: str
    """`NEW`, `SAME`, `CHANGED`, `FOREIGN` if it is not ours,
    `OF_PACKAGE` if the package manager put it there, `OBSOLETE` if it is and shall go,
    `EDITED` if it is ours and somebody has changed it since, whether it shall be replaced or go."""
    item: Item | None = None
    """What shall be there."""
    kept: str = ""
    """Where an edited file will be kept."""


def look(root: str, items: Iterable[Item], recorded: Mapping[str, tuple[str, ...]]) -> list[Found]:
    """Return what is at the places of ``items``, and what is left of the files ``recorded`` before.

    ``recorded`` has the digest of the file that was installed at each path.
    """
    wanted = {item.path: item for item in items}
    found = []
    for path in {**wanted, **recorded}:
        here, item, known = _read(root, path), wanted.get(path), recorded.get(path, ())
        state = _state(here, item, known) if item else _removable(here, known)
        if state:
            kept = _place_to_keep(root, path, here[0]) if here and state == EDITED else ""
            found.append(Found(path, state, item, kept))
    return found


def digest(data: bytes) -> str:
    """Return a digest of the content of a file."""
    return hashlib.sha256(data).hexdigest()


def require_ours(found: Iterable[Found]) -> None:
    """ConflictError if another program's file is in the place of one of apvfio's."""
    for path, state, item, _ in found:
        if item and state == OF_PACKAGE:
            raise ConflictError(
                f"/{path} is left over from the package apvfio, which is not installed.",
                remedy="Remove it, as 'apt-get purge apvfio' does, then install again.",
            )
        if item and state == FOREIGN:
            raise ConflictError(
                f"/{path} exists and does not belong to apvfio.", remedy="Move it away, then install again."
            )


def packaged(root: str) -> bool:
    """Whether apvfio is part of this host as a package, as the file of a unit says.

    A package's files in /etc may be gone, or still be there although the package is not.
    """
    units = (f"{place}/systemd/system/{PREPARE_UNIT}" for place in ("usr/lib", "lib"))
    return any(PACKAGED.encode() in (_read(root, unit) or (b"", 0))[0] for unit in units)


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
    """Put new and changed files in their places and remove obsolete ones; the rest is left alone.

    An edited file is kept elsewhere before.
    """
    for path, state, item, kept in found:
        with _telling(path, "replaced" if item else "removed"):
            here = _read(root, path) if kept else None
            if here:
                _put(root, kept, here[0], _PRIVATE)
            if item and state in (NEW, CHANGED, EDITED):
                _put(root, path, item.text.encode(), item.mode)
            elif state in (OBSOLETE, EDITED):
                os.unlink(os.path.join(root, path))


def clean(root: str, paths: Iterable[str]) -> None:
    """Remove what an interrupted `apply` has left beside ``paths``, which `look` has examined."""
    for path in paths:
        new = _beside(path)
        with _telling(new, "removed"), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            os.unlink(os.path.join(root, new))


def prune(root: str, directories: Iterable[str]) -> tuple[str, ...]:
    """Remove the ``directories``, given parents first, that are empty; those that stay."""
    given = tuple(directories)
    for path in reversed(given):
        try:
            os.rmdir(os.path.join(root, path))
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR, ENOTEMPTY, EEXIST, EBUSY):
                raise file_error(f"/{path}", "removed", error) from error
    return tuple(path for path in given if os.path.isdir(os.path.join(root, path)))


@contextmanager
def _telling(path: str, done: str) -> Iterator[None]:
    """Turn OSError into the error that says that ``path`` could not be ``done``."""
    try:
        yield
    except OSError as error:
        raise file_error(f"/{path}", done, error) from error


def _state(here: tuple[bytes, int] | None, item: Item, known: tuple[str, ...]) -> str:
    if here is None:
        return NEW
    data, mode = here
    if (data, mode) == (item.text.encode(), item.mode):
        return SAME
    if PACKAGED in item.text:
        return CHANGED if PACKAGED.encode() in data else FOREIGN
    if MARK.encode() in data:
        return CHANGED if digest(data) in (digest(item.text.encode()), *known) else EDITED
    return OF_PACKAGE if PACKAGED.encode() in data else FOREIGN


def _removable(here: tuple[bytes, int] | None, known: tuple[str, ...]) -> str:
    """The state of a file that shall go, '' if it is gone."""
    if here is None:
        return ""
    if MARK.encode() not in here[0]:
        return FOREIGN
    return OBSOLETE if digest(here[0]) in known else EDITED


def _read(root: str, path: str) -> tuple[bytes, int] | None:
    """Return content and mode of a file, None if there is none; b"" for what cannot be apvfio's."""
    target = os.path.join(root, path)
    inside = os.path.join(os.path.realpath(root), "")
    with _telling(path, "read"):
        # A tree may have links that are meant for its own host, and lead into this one.
        if not os.path.join(os.path.realpath(os.path.dirname(target)), "").startswith(inside):
            sentence = f"the directory of /{path} leads out of {root} by a link."
            raise HostError(sentence, remedy="Make the link relative, or replace it by a directory.")
        try:
            here = os.lstat(target)
        except FileNotFoundError:
            return None
        mode = stat.S_IMODE(here.st_mode)
        if not stat.S_ISREG(here.st_mode) or here.st_size > _SIZE_LIMIT:
            return b"", mode
        fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return file.read(), mode


def _place_to_keep(root: str, path: str, data: bytes) -> str:
    """A free name for a copy of an edited file, or that of the copy which an interrupted call has made."""
    number = 0
    while True:
        place = f"{KEPT}/{path}.{number}" if number else f"{KEPT}/{path}"
        here = _read(root, place)
        if here is None or here[0] == data:
            return place
        number += 1


def _beside(target: str) -> str:
    """Where a file is written before it is put in its place.

    Beside the directory: libvirt runs every executable file in its own, whatever the name.
    """
    return f"{os.path.dirname(target)}.{os.path.basename(target)}.new"


def _put(root: str, path: str, data: bytes, mode: int) -> None:
    target = os.path.join(root, path)
    for directory in missing_directories(root, [path]):
        # Whatever the caller's umask: others read manuals and units, too.
        umask = os.umask(0o022)
        try:
            os.mkdir(os.path.join(root, directory))
        finally:
            os.umask(umask)
    new = _beside(target)
    with suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(new, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise

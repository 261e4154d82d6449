# SPDX-License-Identifier: Apache-2.0
"""The files of a machine, or of a tree that stands for one."""

from __future__ import annotations

import os

from apvfio.model.contexts import contextmanager, suppress
from apvfio.model.errors import ApvfioError
from apvfio.store.safe_open import (
    file_error,
    make_private,
    open_ordinary,
    read_part,
    replace_whole,
    require_private,
    write_all,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OWN = ("run/apvfio", "var/lib/apvfio")
_SIZE_LIMIT = 64 << 20
_END = 64 << 10


class RealFiles:
    """Files of the machine whose root directory is ``root``, owned by root."""

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def _path(self, path: str) -> str:
        for own in _OWN:
            if path.startswith(f"{own}/"):
                require_private(os.path.join(self._root, own))
        return os.path.join(self._root, path)

    @contextmanager
    def _reporting(self, path: str, done: str) -> Iterator[str]:
        """The context in which a file is ``done``, such as "written"; it gets the whole path."""
        target = self._path(path)
        try:
            yield target
        except OSError as error:
            raise file_error(target, done, error) from error

    def read(self, path: str) -> str | None:
        with self._reporting(path, "read") as target, suppress(FileNotFoundError, NotADirectoryError):
            data = read_part(target, _SIZE_LIMIT + 1)
            if len(data) > _SIZE_LIMIT:
                raise ApvfioError(f"/{path} is larger than {_SIZE_LIMIT >> 20} MiB.", remedy="Move it away.")
            return data.decode("utf-8", "replace")
        return None

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        with self._reporting(path, "written") as target:
            replace_whole(target, text.encode(), mode)

    def create(self, path: str) -> bool:
        with self._reporting(path, "made") as target, suppress(FileNotFoundError):
            os.close(open_ordinary(target, os.O_WRONLY | os.O_CREAT))
            return True
        return False

    def append(self, path: str, text: str) -> None:
        with self._reporting(path, "written") as target:
            make_private(os.path.dirname(target))
            fd = open_ordinary(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                write_all(fd, text.encode())
            finally:
                os.close(fd)

    def end(self, path: str) -> str:
        with self._reporting(path, "read") as target, suppress(FileNotFoundError):
            return read_part(target, _END, end=True).decode("utf-8", "replace")
        return ""

    def size(self, path: str) -> int:
        try:
            return os.lstat(self._path(path)).st_size
        except OSError:
            return 0

    def rename(self, path: str, new: str) -> None:
        with self._reporting(path, "renamed") as target, suppress(FileNotFoundError):
            os.replace(target, self._path(new))

    def remove(self, path: str) -> None:
        with self._reporting(path, "removed") as target, suppress(FileNotFoundError):
            os.unlink(target)

    def list(self, path: str) -> list[str]:
        with self._reporting(path, "listed") as target, suppress(FileNotFoundError, NotADirectoryError):
            return sorted(os.listdir(target))
        return []

# SPDX-License-Identifier: Apache-2.0
"""The files of a machine, or of a tree that stands for one."""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR

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

_OWN = ("run/apvfio", "var/lib/apvfio")
_SIZE_LIMIT = 64 << 20
_END = 64 << 10


class RealFiles:
    """Files of the machine whose root directory is ``root``, kept as root's own."""

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def _path(self, path: str) -> str:
        for own in _OWN:
            if path.startswith(f"{own}/"):
                require_private(os.path.join(self._root, own))
        return os.path.join(self._root, path)

    def read(self, path: str) -> str | None:
        try:
            data = read_part(self._path(path), _SIZE_LIMIT + 1)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return None
            raise file_error(self._path(path), "read", error) from error
        if len(data) > _SIZE_LIMIT:
            raise ApvfioError(f"/{path} is larger than {_SIZE_LIMIT >> 20} MiB.", remedy="Move it away.")
        return data.decode("utf-8", "replace")

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        target = self._path(path)
        try:
            replace_whole(target, text.encode(), mode)
        except OSError as error:
            raise file_error(target, "written", error) from error

    def create(self, path: str) -> bool:
        try:
            os.close(open_ordinary(self._path(path), os.O_WRONLY | os.O_CREAT))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise file_error(self._path(path), "made", error) from error
        return True

    def append(self, path: str, text: str) -> None:
        target = self._path(path)
        try:
            make_private(os.path.dirname(target))
            fd = open_ordinary(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                write_all(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise file_error(target, "written", error) from error

    def end(self, path: str) -> str:
        try:
            return read_part(self._path(path), _END, end=True).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise file_error(self._path(path), "read", error) from error

    def size(self, path: str) -> int:
        try:
            return os.lstat(self._path(path)).st_size
        except OSError:
            return 0

    def rename(self, path: str, new: str) -> None:
        try:
            os.replace(self._path(path), self._path(new))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_error(self._path(path), "renamed", error) from error

    def remove(self, path: str) -> None:
        try:
            os.unlink(self._path(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise file_error(self._path(path), "removed", error) from error

    def list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise file_error(self._path(path), "listed", error) from error

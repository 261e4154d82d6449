# SPDX-License-Identifier: Apache-2.0
"""The ordinary files of a simulated host: a tree in memory that behaves as POSIX says.

In the simulated host's file the tree is a flat object, path to content. A text alone is a
file of mode 0600 and ``""`` under a path that ends with ``/`` is a directory of mode 0755;
whatever differs is an object: ``{"text": ..., "mode": "0755"}``, ``{"mode": "0700"}`` for a
directory, ``{"link": target}``. Directories are listed only if that says something: they
are empty, or of another mode. Hard links come back as copies.
"""

from __future__ import annotations

import time
from errno import EBUSY, EEXIST, EFBIG, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM
from typing import TYPE_CHECKING

from apvfio.model.errors import HostError, RequestError
from apvfio.sim.grammar import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Entry = str | dict[str, str]

FILE_MODE = 0o600
DIRECTORY_MODE = 0o755
_ROOTS = ("etc", "run")
"""Directories every host has; they cannot be removed."""
_NOT_OURS = ("sys", "proc")
_LARGEST = 16 << 20
_END = 64 << 10
_REMEDY = "Make a new one with 'apvfio sim new'."
_HIDDEN = ".fuse_hidden"
"""What libfuse renames a file to that is unlinked while open; such a file dies with the mount."""


class Node:
    """What all entries have: permission bits and the time of the last change, in nanoseconds."""

    __slots__ = ("mode", "mtime")

    def __init__(self, mode: int) -> None:
        self.mode = mode & 0o7777
        self.mtime = time.time_ns()


class File(Node):
    """An ordinary file; ``links`` counts its names."""

    __slots__ = ("data", "links")

    def __init__(self, mode: int = FILE_MODE, data: bytes = b"") -> None:
        super().__init__(mode)
        self.data = bytearray(data)
        self.links = 1

    def write(self, data: bytes, offset: int) -> int:
        """Put ``data`` at ``offset``, with zeros in a gap before it."""
        end = offset + len(data)
        if end > _LARGEST:
            raise refusal(EFBIG)
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset:end] = data
        self.mtime = time.time_ns()
        return len(data)

    def truncate(self, length: int) -> None:
        """Cut or extend the file to ``length`` bytes."""
        if length > _LARGEST:
            raise refusal(EFBIG)
        del self.data[length:]
        self.data.extend(bytes(length - len(self.data)))
        self.mtime = time.time_ns()


class Directory(Node):
    """A directory: names and their nodes."""

    __slots__ = ("entries",)

    def __init__(self, mode: int = DIRECTORY_MODE) -> None:
        super().__init__(mode)
        self.entries: dict[str, Node] = {}


class Link(Node):
    """A symbolic link. The caller follows it."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        super().__init__(0o777)
        self.target = target


class FileTree:
    """The files below /; paths are written without the leading slash. OSError as from the kernel."""

    def __init__(self) -> None:
        self.root = Directory()
        for name in _ROOTS:
            self.root.entries[name] = Directory()

    @classmethod
    def from_json(cls, files: object) -> FileTree:
        """The tree that `to_json` wrote; RequestError if ``files`` is anything else."""
        tree = cls()
        if not isinstance(files, dict):
            raise RequestError("'files' is not an object.", remedy=_REMEDY)
        for path, entry in files.items():
            try:
                tree._load(path, entry)
            except (AttributeError, OSError, TypeError, ValueError) as error:
                raise RequestError(
                    f"its file {path[:80]!r} cannot be understood: {error}.", remedy=_REMEDY
                ) from None
        return tree

    def to_json(self) -> dict[str, Entry]:
        """The tree as JSON holds it."""
        return dict(_entries(self.root, ""))

    def add(self, files: Mapping[str, Entry]) -> None:
        """Put further files, written as in JSON, into the tree; ValueError or OSError if that fails."""
        for path, entry in files.items():
            self._load(path, entry)

    def lookup(self, path: str) -> Node:
        """The node at ``path``, ENOENT or ENOTDIR if there is none."""
        node: Node = self.root
        for name in path.split("/") if path else ():
            if not isinstance(node, Directory):
                raise refusal(ENOTDIR)
            if name not in node.entries:
                raise refusal(ENOENT)
            node = node.entries[name]
        return node

    def directory(self, path: str) -> Directory:
        """The directory at ``path``."""
        node = self.lookup(path)
        if not isinstance(node, Directory):
            raise refusal(ENOTDIR)
        return node

    def file(self, path: str) -> File:
        """The ordinary file at ``path``; EISDIR for a directory, EINVAL for a link."""
        node = self.lookup(path)
        if not isinstance(node, File):
            raise refusal(EISDIR if isinstance(node, Directory) else EINVAL)
        return node

    def add_node(self, path: str, node: Node) -> None:
        """Give ``node`` the new name ``path``; EEXIST if the name is taken."""
        parent, name = self._parent(path)
        if name in parent.entries:
            raise refusal(EEXIST)
        parent.entries[name] = node
        parent.mtime = time.time_ns()

    def link(self, path: str, new: str) -> None:
        """Give the file at ``path`` the further name ``new``."""
        node = self.lookup(path)
        if not isinstance(node, File):
            raise refusal(EPERM)
        self.add_node(new, node)
        node.links += 1

    def unlink(self, path: str) -> None:
        """Remove a file's name, or a link."""
        parent, name = self._parent(path)
        node = self.lookup(path)
        if isinstance(node, Directory):
            raise refusal(EISDIR)
        self._drop(parent, name)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        directory = self.directory(path)
        if path in _ROOTS:
            raise refusal(EBUSY)
        if directory.entries:
            raise refusal(ENOTEMPTY)
        self._drop(*self._parent(path))

    def rename(self, old: str, new: str) -> None:
        """Move ``old`` to ``new`` in one step, replacing a file or an empty directory there."""
        node = self.lookup(old)
        source, source_name = self._parent(old)
        target, target_name = self._parent(new)
        there = target.entries.get(target_name)
        if there is node:
            return
        if old in _ROOTS or new in _ROOTS:
            raise refusal(EBUSY)
        if there is not None:
            _check_replaceable(node, there)
            self._drop(target, target_name)
        del source.entries[source_name]
        target.entries[target_name] = node
        source.mtime = target.mtime = time.time_ns()

    def make_directories(self, path: str, mode: int) -> Directory:
        """The directory at ``path``, made with its parents if it is not there."""
        made = self.root
        for name in path.split("/") if path else ():
            node = made.entries.setdefault(name, Directory(mode))
            if not isinstance(node, Directory):
                raise refusal(ENOTDIR)
            made = node
        return made

    def _parent(self, path: str) -> tuple[Directory, str]:
        directory, _, name = path.rpartition("/")
        return self.directory(directory), name

    @staticmethod
    def _drop(parent: Directory, name: str) -> None:
        node = parent.entries.pop(name)
        if isinstance(node, File):
            node.links -= 1
        parent.mtime = time.time_ns()

    def _load(self, path: str, entry: Entry) -> None:
        name = path.removesuffix("/")
        parts = name.split("/")
        if "\0" in path or not set(parts).isdisjoint(("", ".", "..")) or parts[0] in _NOT_OURS:
            raise ValueError("a simulated host keeps no file under that name")
        if path.endswith("/"):
            mode = DIRECTORY_MODE if entry == "" else _mode(entry)
            self.make_directories(name, DIRECTORY_MODE).mode = mode
            return
        self.make_directories(name.rpartition("/")[0], DIRECTORY_MODE)
        self.add_node(name, _leaf(entry))


class SimFiles:
    """`apvfio.kernel.seam.Files` on a tree, as `apvfio.store.files.RealFiles` has it on a disk."""

    def __init__(self, tree: FileTree) -> None:
        self._tree = tree

    def read(self, path: str) -> str | None:
        """The text of the file, or None where there is none."""
        try:
            node = self._tree.lookup(path)
        except OSError:
            return None
        if not isinstance(node, File):
            raise _unusable(path, "it is not a regular file")
        return node.data.decode("utf-8", "replace")

    def write(self, path: str, text: str, mode: int = FILE_MODE) -> None:
        """Replace the file; missing directories are made with mode 0700."""
        parent, _, name = path.rpartition("/")
        try:
            directory = self._tree.make_directories(parent, 0o700)
        except OSError as error:
            raise _unusable(path, str(error.strerror)) from error
        if isinstance(directory.entries.get(name), Directory):
            raise _unusable(path, "it is a directory")
        directory.entries[name] = File(mode, text.encode())

    def create(self, path: str) -> bool:
        """Make an empty file, mode 0600; False if its directory does not exist."""
        parent, _, name = path.rpartition("/")
        try:
            node = self._tree.directory(parent).entries.setdefault(name, File())
        except OSError as error:
            if error.errno == ENOENT:
                return False
            raise _unusable(path, str(error.strerror)) from error
        if not isinstance(node, File):
            raise _unusable(path, "it is not a regular file")
        return True

    def append(self, path: str, text: str) -> None:
        """Add to the end of the file."""
        self.write(path, (self.read(path) or "") + text)

    def end(self, path: str) -> str:
        """The end of the file, '' where there is none."""
        return (self.read(path) or "")[-_END:]

    def size(self, path: str) -> int:
        """The file's size in bytes, 0 where there is none."""
        return len((self.read(path) or "").encode())

    def rename(self, path: str, new: str) -> None:
        """Give the file, if it is there, another name."""
        text = self.read(path)
        if text is not None:
            self.write(new, text)
            self.remove(path)

    def remove(self, path: str) -> None:
        """Remove the file if it exists."""
        try:
            self._tree.unlink(path)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                raise _unusable(path, str(error.strerror)) from error

    def list(self, path: str) -> list[str]:
        """The names in a directory, sorted; empty where there is none."""
        try:
            return sorted(self._tree.directory(path).entries)
        except OSError:
            return []


def _entries(directory: Directory, prefix: str) -> Iterator[tuple[str, Entry]]:
    for name, node in sorted(directory.entries.items()):
        path = prefix + name
        if isinstance(node, Directory):
            if node.mode != DIRECTORY_MODE:
                yield f"{path}/", {"mode": f"{node.mode:04o}"}
            elif not node.entries:
                yield f"{path}/", ""
            yield from _entries(node, f"{path}/")
        elif isinstance(node, Link):
            yield path, {"link": node.target}
        elif isinstance(node, File) and not name.startswith(_HIDDEN):
            text = node.data.decode("utf-8", "surrogateescape")
            yield path, text if node.mode == FILE_MODE else {"mode": f"{node.mode:04o}", "text": text}


def _leaf(entry: Entry) -> Node:
    if isinstance(entry, str):
        return File(FILE_MODE, _data(entry))
    if "link" in entry:
        return Link(str(entry["link"]))
    return File(_mode(entry), _data(entry.get("text", "")))


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _mode(entry: Entry) -> int:
    if not isinstance(entry, dict) or "mode" not in entry:
        raise ValueError("it has no mode")
    return int(entry["mode"], 8)


def _check_replaceable(node: Node, there: Node) -> None:
    if isinstance(there, Directory):
        if not isinstance(node, Directory):
            raise refusal(EISDIR)
        if there.entries:
            raise refusal(ENOTEMPTY)
    elif isinstance(node, Directory):
        raise refusal(ENOTDIR)


def _unusable(path: str, why: str) -> HostError:
    return HostError(f"the simulated host's /{path} cannot be used: {why}.", remedy="Remove it.")

# SPDX-License-Identifier: Apache-2.0
"""A simulated host as a file system: the operations that FUSE calls.

``/sys`` is the simulated kernel: opening, reading and writing behave as in kernfs, so
unmodified tools see what they would see on a machine. ``/proc`` holds the boot id. All
else are ordinary files. Errors are OSError, passed on as they are. Every operation takes
one lock, because the host is also saved while it is mounted.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from errno import EACCES, EEXIST, EINVAL, EISDIR, ENODEV, ENOENT, EPERM
from typing import TYPE_CHECKING, Protocol

from apvfio.sim.files import Directory, File, FileTree, Link
from apvfio.sim.grammar import refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from apvfio.sim.files import Node
    from apvfio.sim.host_file import SimSystem
    from apvfio.sim.kernel import SimKernel

    Stat = dict[str, int]

_PAGE = 4096
_BOOT_ID = "proc/sys/kernel/random/boot_id"


class FileInfo(Protocol):
    """What FUSE tells of an open file (struct fuse_file_info)."""

    flags: int
    fh: int
    direct_io: int


class OpenAttribute:
    """An open sysfs attribute: a read from the start calls its show function, a write its store function."""

    def __init__(self, kernel: SimKernel, path: str) -> None:
        self._kernel = kernel
        self._path = path
        self._shown: bytes | None = None

    def read(self, size: int, offset: int) -> bytes:
        """A part of the attribute's text, made again at every read from its start."""
        if self._shown is None or offset == 0:
            try:
                self._shown = _encode(self._kernel.read(self._path))
            except OSError as error:
                raise _gone(error) from error
        return self._shown[offset : offset + size]

    def write(self, data: bytes, offset: int) -> int:  # noqa: ARG002
        """One store. The offset means nothing, and more than a page is not taken (kernfs_fop_write_iter)."""
        taken = data[:_PAGE]
        try:
            self._kernel.write(self._path, _decode(taken))
        except OSError as error:
            raise _gone(error) from error
        return len(taken)


class OpenFile:
    """An open ordinary file. It lives on when its name goes."""

    def __init__(self, file: File, *, append: bool) -> None:
        self._file = file
        self._append = append

    def read(self, size: int, offset: int) -> bytes:
        """A part of the file."""
        return bytes(self._file.data[offset : offset + size])

    def write(self, data: bytes, offset: int) -> int:
        """Change the file, at its end if it was opened for appending."""
        return self._file.write(data, len(self._file.data) if self._append else offset)


if TYPE_CHECKING:
    Handle = OpenAttribute | OpenFile


class Face:
    """A simulated host's operations, named and called as libfuse's high-level interface has them.

    ``changed`` is called after every operation that may have changed the host, ``ready`` once
    the file system is in use.
    """

    use_ns = True
    """Times are whole nanoseconds."""

    def __init__(self, system: SimSystem, changed: Callable[[], None], ready: Callable[[], None]) -> None:
        self.guard = threading.Lock()
        self._kernel = system.kernel
        self._files = system.tree
        self._changed = changed
        self._ready = ready
        self.used = False
        self._proc = FileTree()
        self._proc.make_directories(os.path.dirname(_BOOT_ID), 0o555)
        self._proc.add_node(_BOOT_ID, File(0o444, f"{system.boot_id}\n".encode()))
        self._handles: dict[int, Handle] = {}
        self._next = 1
        self._start = time.time_ns()
        self._ids = {"st_uid": os.geteuid(), "st_gid": os.getegid()}

    # What a directory listing needs.

    def init(self, path: str) -> None:  # noqa: ARG002
        """The kernel has taken the file system into use."""
        self.used = True
        self._ready()

    def getattr(self, path: str, fi: FileInfo | None = None) -> Stat:  # noqa: ARG002
        """The file's stat."""
        with self.guard:
            if _is_sys(path):
                return self._sys_stat(path[5:])
            return self._node_stat(self._node(path))

    def readdir(self, path: str, fh: int) -> list[str]:  # noqa: ARG002
        """The names in a directory."""
        with self.guard:
            if _is_sys(path):
                names = self._kernel.list(path[5:])
            else:
                names = list(self._tree(path).directory(path[1:]).entries)
            return [".", "..", *names, *(("sys", "proc") if path == "/" else ())]

    def readlink(self, path: str) -> str:
        """A link's target."""
        with self.guard:
            if _is_sys(path):
                return self._kernel.readlink(path[5:])
            node = self._node(path)
            if not isinstance(node, Link):
                raise refusal(EINVAL)
            return node.target

    # Open files.

    def open(self, path: str, fi: FileInfo) -> int:
        """Open a file; of its size only the kernel's tree knows, hence without the page cache."""
        with self.guard:
            handle = self._open_attribute(path[5:], fi.flags) if _is_sys(path) else self._open(path, fi.flags)
            return self._hand_out(handle, fi)

    def create(self, path: str, mode: int, fi: FileInfo) -> int:
        """Make an ordinary file and open it."""
        with self.guard:
            try:
                handle = self._open(self._own(path, EACCES), fi.flags)
            except FileNotFoundError:
                file = File(mode)
                self._files.add_node(path[1:], file)
                self._changed()
                handle = OpenFile(file, append=bool(fi.flags & os.O_APPEND))
            else:
                if fi.flags & os.O_EXCL:
                    raise refusal(EEXIST)
            return self._hand_out(handle, fi)

    def read(self, path: str, size: int, offset: int, fi: FileInfo) -> bytes:  # noqa: ARG002
        """Read from an open file."""
        with self.guard:
            return self._handles[fi.fh].read(size, offset)

    def write(self, path: str, data: bytes, offset: int, fi: FileInfo) -> int:  # noqa: ARG002
        """Write to an open file: one write(2) of a sysfs attribute is one store."""
        with self.guard:
            try:
                return self._handles[fi.fh].write(data, offset)
            finally:
                # Even a store that fails may have changed the kernel.
                self._changed()

    def release(self, path: str, fi: FileInfo) -> int:  # noqa: ARG002
        """The last descriptor of an open file is closed."""
        with self.guard:
            self._handles.pop(fi.fh, None)
        return 0

    def fsync(self, path: str, datasync: int, fi: FileInfo) -> int:  # noqa: ARG002
        """The simulated host's disk is in memory."""
        return 0

    def truncate(self, path: str, length: int, fi: FileInfo | None = None) -> int:  # noqa: ARG002
        """Set a file's length; of a sysfs attribute, accepted and meaningless, as in kernfs."""
        with self.guard:
            if _is_sys(path):
                self._sys_stat(path[5:])
            else:
                self._files.file(self._own(path)[1:]).truncate(length)
                self._changed()
        return 0

    # Names. In /sys and /proc nobody can make or remove any.

    def mkdir(self, path: str, mode: int) -> int:
        """Make a directory."""
        return self._change(lambda name: self._files.add_node(name, Directory(mode)), path)

    def rmdir(self, path: str) -> int:
        """Remove an empty directory."""
        return self._change(self._files.rmdir, path)

    def unlink(self, path: str) -> int:
        """Remove a name."""
        return self._change(self._files.unlink, path)

    def symlink(self, path: str, target: str) -> int:
        """Make a symbolic link."""
        return self._change(lambda name: self._files.add_node(name, Link(target)), path)

    def link(self, path: str, old: str) -> int:
        """Give a file a second name."""
        return self._change(lambda name, source: self._files.link(source, name), path, old)

    def rename(self, old: str, new: str) -> int:
        """Rename in one step."""
        return self._change(self._files.rename, old, new)

    def chmod(self, path: str, mode: int) -> int:
        """Set the permission bits."""
        return self._change(lambda name: setattr(self._files.lookup(name), "mode", mode & 0o7777), path)

    def chown(self, path: str, uid: int, gid: int) -> int:
        """All files belong to whoever mounted the host: accepted if it says so, too."""
        if uid not in (-1, self._ids["st_uid"]) or gid not in (-1, self._ids["st_gid"]):
            raise refusal(EPERM)
        return self._change(self._files.lookup, path)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        """Set the time of the last change, until the host is unmounted."""
        mtime = times[1] if times else time.time_ns()
        return self._change(lambda name: setattr(self._files.lookup(name), "mtime", mtime), path)

    # Behind the operations.

    def _change(self, act: Callable[..., Any], *paths: str) -> int:
        with self.guard:
            act(*(self._own(path)[1:] for path in paths))
            self._changed()
        return 0

    @staticmethod
    def _own(path: str, number: int = EPERM) -> str:
        """``path``, if the file tree keeps it; what the kernel answers differs between calls (fs/namei.c)."""
        if _is_sys(path) or _is_proc(path):
            raise refusal(number)
        return path

    def _tree(self, path: str) -> FileTree:
        return self._proc if _is_proc(path) else self._files

    def _node(self, path: str) -> Node:
        return self._tree(path).lookup(path[1:])

    def _hand_out(self, handle: Handle, fi: FileInfo) -> int:
        fi.direct_io = 1
        fi.fh = self._next
        self._handles[self._next] = handle
        self._next += 1
        return 0

    def _open(self, path: str, flags: int) -> Handle:
        node = self._node(path)
        if not isinstance(node, File):
            raise refusal(EISDIR)
        if flags & os.O_ACCMODE != os.O_RDONLY and _is_proc(path):
            raise refusal(EACCES)
        if flags & os.O_TRUNC:
            node.truncate(0)
            self._changed()
        return OpenFile(node, append=bool(flags & os.O_APPEND))

    def _open_attribute(self, path: str, flags: int) -> Handle:
        """Root, too, needs the attribute's read or write bit (kernfs_fop_open)."""
        kind = self._kernel.kind(path)
        if kind != "file":
            raise refusal(EISDIR if kind else ENOENT)
        wanted = {os.O_RDONLY: 0o444, os.O_WRONLY: 0o222}.get(flags & os.O_ACCMODE)
        mode = self._kernel.mode(path)
        if any(not mode & bits for bits in ((wanted,) if wanted else (0o444, 0o222))):
            raise refusal(EACCES)
        return OpenAttribute(self._kernel, path)

    def _sys_stat(self, path: str) -> Stat:
        tree = self._kernel
        kind = tree.kind(path)
        if kind is None:
            raise refusal(ENOENT)
        if kind == "link":
            return self._stat(stat.S_IFLNK | 0o777, len(tree.readlink(path)), self._start)
        if kind == "dir":
            return self._stat(stat.S_IFDIR | 0o755, 0, self._start, links=2)
        return self._stat(stat.S_IFREG | stat.S_IMODE(tree.mode(path)), _PAGE, self._start)

    def _node_stat(self, node: Node) -> Stat:
        if isinstance(node, File):
            return self._stat(stat.S_IFREG | node.mode, len(node.data), node.mtime, links=node.links)
        if isinstance(node, Link):
            return self._stat(stat.S_IFLNK | node.mode, len(_encode(node.target)), node.mtime)
        return self._stat(stat.S_IFDIR | node.mode, 0, node.mtime, links=2)

    def _stat(self, mode: int, size: int, mtime: int, links: int = 1) -> Stat:
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), mtime)
        return {"st_mode": mode, "st_size": size, "st_nlink": links, **times, **self._ids}


def _is_sys(path: str) -> bool:
    return path == "/sys" or path.startswith("/sys/")


def _is_proc(path: str) -> bool:
    return path == "/proc" or path.startswith("/proc/")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _gone(error: OSError) -> OSError:
    """An open attribute whose device went: ENODEV, not ENOENT (kernfs_get_active)."""
    return refusal(ENODEV) if error.errno == ENOENT else error

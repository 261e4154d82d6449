# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel as /sys: paths, kinds, modes, reading and writing.

Paths are relative to /sys. Inside the kernel a character is a byte, as in C; texts are decoded and encoded
here.
"""

from __future__ import annotations

from errno import EACCES, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from apvfio.sim import modules, tree_ap, tree_vfio
from apvfio.sim.grammar import refusal
from apvfio.sim.nodes import Attribute, SysDirectory, SysLink, shows

if TYPE_CHECKING:
    from typing import Literal

    from apvfio.sim.bus import Rules
    from apvfio.sim.nodes import Entry

    Names = list[str]

_PAGE = 4096
_MAX_LINKS = 40
_BRANCHES = {
    "bus/ap": ("ap", tree_ap.bus),
    "bus/matrix": ("vfio_ap", tree_vfio.matrix_bus),
    "bus/mdev": ("mdev", tree_vfio.mdev_bus),
    "class/mdev_bus": ("mdev", tree_vfio.mdev_class),
    "class/vfio": ("vfio", tree_vfio.vfio_class),
    "class/vfio-dev": ("vfio", tree_vfio.vfio_dev_class),
    "devices/ap": ("ap", tree_ap.devices),
    "devices/vfio_ap": ("vfio_ap", tree_vfio.devices),
    "devices/virtual": ("vfio", tree_vfio.virtual),
}
"""Directories, the modules that make them, and the functions that do it here."""


class Tree:
    """The tree of a kernel. Methods raise OSError with the kernel's errno and the path."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def kind(self, path: str) -> Literal["dir", "file", "link"] | None:
        """What is at ``path``, a link at its end not being followed; None if there is nothing."""
        try:
            _, entry = self._walk(path, follow=False)
        except OSError:
            return None
        if isinstance(entry, Attribute):
            return "file"
        return "link" if isinstance(entry, SysLink) else "dir"

    def exists(self, path: str) -> bool:
        """Whether there is a file, directory or link of that name."""
        return self.kind(path) is not None

    def mode(self, path: str) -> int:
        """The permission bits, a link at the end not being followed."""
        _, entry = self._walk(path, follow=False)
        if isinstance(entry, Attribute):
            return entry.mode
        return 0o777 if isinstance(entry, SysLink) else 0o755

    def list(self, path: str) -> Names:
        """The names in a directory, sorted."""
        _, entry = self._walk(path)
        if isinstance(entry, (Attribute, SysLink)):
            raise _error(ENOTDIR, path)
        return entry().names()

    def read(self, path: str) -> str:
        """The whole text of a file."""
        show = self._attribute(path).show
        if not show:
            raise _error(EACCES, path)
        try:
            return _outside(show())
        except OSError as error:
            raise _error(error.errno or 0, path) from None

    def write(self, path: str, text: str) -> None:
        """One write(2), and so one store: of nothing, none at all; of more than a page, its beginning
        (kfs:kernfs_fop_write_iter)."""
        store = self._attribute(path).store
        if not store:
            raise _error(EACCES, path)
        taken = _inside(text)[:_PAGE]
        if not taken:
            return
        try:
            store(taken)
        except OSError as error:
            raise _error(error.errno or 0, path) from None

    def readlink(self, path: str) -> str:
        """A link's target, relative as sysfs has it (fs/sysfs/symlink.c:sysfs_get_target_path)."""
        place, entry = self._walk(path, follow=False)
        if not isinstance(entry, SysLink):
            raise _error(EINVAL, path)
        here, there = place[:-1], entry.target.split("/")
        same = takewhile(lambda pair: pair[0] == pair[1], zip(here, there[:-1]))
        common = len(tuple(same))
        return "/".join([".."] * (len(here) - common) + there[common:])

    def _attribute(self, path: str) -> Attribute:
        _, entry = self._walk(path)
        if not isinstance(entry, Attribute):
            raise _error(EISDIR, path)
        return entry

    def _walk(self, path: str, *, follow: bool = True) -> tuple[Names, Entry]:
        """Where ``path`` leads, as the names on the way without links, and what is there."""
        rest = _names(path)[::-1]
        place: Names = []
        entry: Entry = self._root
        links = 0
        while rest:
            if not callable(entry):
                raise _error(ENOTDIR, path)
            place = [*place, rest.pop()]
            found = entry().entry(place[-1])
            if found is None:
                raise _error(ENOENT, path)
            entry = found
            if isinstance(entry, SysLink) and (rest or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise _error(ELOOP, path)
                rest += _names(entry.target)[::-1]
                place, entry = [], self._root
        return place, entry

    def _root(self) -> SysDirectory:
        return SysDirectory(
            {
                "bus": lambda: self._branch("bus/"),
                "class": lambda: self._branch("class/"),
                "devices": lambda: self._branch("devices/"),
                "kernel": lambda: SysDirectory({"iommu_groups": lambda: tree_vfio.iommu_groups(self._rules)}),
                "module": lambda: SysDirectory(
                    {name: self._module(name) for name in self._rules.state.modules}
                ),
            }
        )

    def _branch(self, prefix: str) -> SysDirectory:
        """What the loaded modules have made below ``prefix``."""
        return SysDirectory(
            {
                path.removeprefix(prefix): partial(make, self._rules)
                for path, (module, make) in _BRANCHES.items()
                if path.startswith(prefix) and self._rules.state.loaded(module)
            }
        )

    def _module(self, name: str) -> Entry:
        """A module's directory, without its code's sections; of the parameters the bus' masks alone."""
        state = self._rules.state
        entries: dict[str, Entry] = {
            "holders": lambda: SysDirectory(
                {other: SysLink(f"module/{other}") for other in modules.holders(state, name)}
            ),
            "initstate": shows(lambda: "live"),
        }
        if name == "ap":
            masks = {"apmask": state.boot_apmask, "aqmask": state.boot_aqmask}
            entries["parameters"] = lambda: SysDirectory(
                {mask: shows(partial(_charp, text)) for mask, text in masks.items()}
            )
        return lambda: SysDirectory(entries)


def _charp(text: str | None) -> str:
    return "(null)" if text is None else text


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _inside(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _outside(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def _error(number: int, path: str) -> OSError:
    error = refusal(number)
    error.filename = path
    return error

# SPDX-License-Identifier: Apache-2.0
"""The nodes of a /sys tree. They are made at each access, so that they are never stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.ids import format_hex
from apvfio.sim.grammar import check_action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from apvfio.model.ids import IdSet


class Attribute(NamedTuple):
    """A file: what reading calls, what writing calls; None where that is not permitted."""

    show: Callable[[], str] | None = None
    store: Callable[[str], None] | None = None

    @property
    def mode(self) -> int:
        """The permission bits that sysfs gives such a file."""
        return (0o444 if self.show else 0) | (0o200 if self.store else 0)


class SysLink(NamedTuple):
    """A symbolic link to ``target``, a path below /sys."""

    target: str


class SysDirectory:
    """Names and their nodes; a subdirectory is a function that makes it.

    If there may be a thousand entries, ``more`` lists them and ``find`` makes just one.
    """

    def __init__(
        self,
        entries: dict[str, Entry],
        more: Callable[[], Iterable[str]] = tuple,
        find: Callable[[str], Entry | None] = lambda _: None,
    ) -> None:
        self._entries = entries
        self._more = more
        self._find = find

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted([*self._entries, *self._more()])

    def entry(self, name: str) -> Entry | None:
        """Return the node of ``name``."""
        return self._entries.get(name) or self._find(name)


if TYPE_CHECKING:
    Entry = Attribute | SysLink | Callable[[], SysDirectory]


def shows(value: Callable[[], object], store: Callable[[str], None] | None = None) -> Attribute:
    """A file that can be read: ``value()`` and a newline; with ``store`` it can be written, too."""
    return Attribute(lambda: f"{value()}\n", store)


def shows_flag(value: Callable[[], object], store: Callable[[str], None] | None = None) -> Attribute:
    """A file as `shows` makes it: 1 or 0."""
    return shows(lambda: 1 if value() else 0, store)


def shows_mask(ids: Callable[[], IdSet], store: Callable[[str], None] | None = None) -> Attribute:
    """A file as `shows` makes it: 64 digits, id 0 leftmost."""
    return shows(lambda: format_hex(ids()), store)


def takes(store: Callable[[str], None]) -> Attribute:
    """A file that can only be written."""
    return Attribute(store=store)


def uevent(*lines: str) -> Attribute:
    """A device's ``uevent``: shows its variables, takes the name of an action."""
    return Attribute(lambda: "".join(f"{line}\n" for line in lines), check_action)

# SPDX-License-Identifier: Apache-2.0
"""Drains: areas of queues that guests do not get while an administrator changes the hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apvfio.model.matrix import Apqn, Area, Matrix


class MovedGuest(NamedTuple):
    """A running guest that a drain has given other queues, or was about to."""

    guest: str
    """Its name: untrusted text."""
    uuid: str
    before: Matrix
    """What it had."""
    boot_id: str
    since: int
    """With the boot, the life that it was moved in (`apvfio.model.ledger.Lease.since`): later ones stay."""


class Drain(NamedTuple):
    """One drain, from its command to the end of its restore."""

    area: Area
    since: int
    """When it was begun, in seconds since 1970."""
    moved: tuple[MovedGuest, ...] = ()
    stopped: tuple[str, ...] = ()
    """The names of the guests that it found must be stopped, to be started again."""
    overrides: Mapping[Apqn, str] = {}
    """Each ``driver_override`` of its queues that it cleared, though others had set it."""
    restoring: bool = False
    """Whether its restore has begun: it keeps no queue from a guest any more."""

    def with_moved(self, guest: MovedGuest) -> Drain:
        """The drain with ``guest``; what that had before its first move counts."""
        life = (guest.uuid, guest.boot_id, guest.since)
        if any((known.uuid, known.boot_id, known.since) == life for known in self.moved):
            return self
        others = tuple(known for known in self.moved if known.uuid != guest.uuid)
        return self._replace(moved=(*others, guest))

    def with_stopped(self, names: Iterable[str]) -> Drain:
        """The drain with more guests that must be stopped."""
        return self._replace(stopped=tuple(dict.fromkeys([*self.stopped, *names])))

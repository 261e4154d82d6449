# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon at one end of a migration; a broken connection is opened again."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from apvfio.libvirt import hotplug
from apvfio.libvirt.guests import Guests
from apvfio.migration.places import ABSENT, HALTED, RUNS, UNKNOWN, Presence
from apvfio.migration.process_group import another_process_group
from apvfio.model.errors import ApvfioError, RequestError

if TYPE_CHECKING:
    from types import TracebackType

    from apvfio.libvirt.guests import Guest
    from apvfio.migration.budget import Budget

_AT_ONCE = 1.0
"""Seconds within which a broken connection is known to be broken."""


class Daemon:
    """One host's libvirt, used in a ``with``. Connected when it is first asked, and again after a failure."""

    def __init__(self, uri: str, budget: Budget) -> None:
        self.uri = uri
        self._budget = budget
        self._guests: Guests | None = None

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        guests, self._guests = self._guests, None
        if guests:
            guests.close()

    def guests(self) -> Guests:
        """The connection; HostError if the daemon does not answer."""
        if self._guests is None:
            by_ssh = "ssh" in urlsplit(self.uri).scheme
            with another_process_group() if by_ssh else nullcontext():
                self._guests = Guests(self.uri, keepalive=True, limit=self._budget.for_call)
        return self._guests

    def look(self, uuid: str) -> Presence:
        """The guest at this host. A broken connection is made again, once; a silent daemon is left alone."""
        begun = time.monotonic()
        found = self._looked(uuid)
        if found.state == UNKNOWN and time.monotonic() - begun < _AT_ONCE:
            found = self._looked(uuid)
        return found

    def _looked(self, uuid: str) -> Presence:
        try:
            return self._look(uuid)
        except ApvfioError as error:
            self.disconnect()
            return Presence(UNKNOWN, why=error.sentence)

    def _look(self, uuid: str) -> Presence:
        guest = self.guests().by_uuid(uuid)
        if guest is None:
            return Presence(ABSENT)
        state = guest.state()
        if not state.active:
            return Presence(ABSENT)
        try:
            device = hotplug.attached(guest)
        except ApvfioError:
            if self.guests().running(uuid) is None:
                return Presence(ABSENT)  # it has just ended
            raise
        return Presence(HALTED if state.halted else RUNS, device)

    def knows(self, uuid: str) -> bool:
        """Whether the guest runs or is defined here; False also if that cannot be told."""
        try:
            return self.guests().knows(uuid)
        except ApvfioError:
            return False

    def is_migrating(self, uuid: str) -> bool:
        """Whether libvirt is moving the guest, from here or to here; False also if that cannot be told."""
        try:
            guest = self.guests().running(uuid)
            return guest is not None and guest.is_migrating()
        except ApvfioError:
            return False

    def running(self, uuid: str) -> Guest:
        """The guest, which runs here; ApvfioError if it does not."""
        guest = self.guests().running(uuid)
        if guest is None:
            raise ApvfioError("it has ended.", remedy="See 'virsh list --all' on both hosts.")
        return guest

    def find(self, name: str) -> Guest | None:
        """The guest of that name, uuid or id; HostError if libvirt does not answer."""
        try:
            return self.guests().find(name)
        except RequestError:
            return None

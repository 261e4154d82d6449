# SPDX-License-Identifier: Apache-2.0
"""A guest goes to another host with its queues, or stays here with them.

A step that fails, or an interruption, leads back to the start. If this process dies, the guest runs on
where it is, perhaps without its device: the same command given again goes on from there, and with
``--back`` it goes back (`apvfio.migration.stages`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from apvfio.engine.migration_lease import await_device
from apvfio.engine.stop import release_guest
from apvfio.libvirt import hotplug
from apvfio.migration import destination, stages
from apvfio.migration.stages import GuestPlaces
from apvfio.migration.transfer import transfer, uninterrupted
from apvfio.model.errors import ApvfioError, unexpected
from apvfio.model.ledger import ENDING
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest, Guests
    from apvfio.migration.hosts import OtherHost
    from apvfio.migration.transfer import Terms
    from apvfio.model.ledger import Lease
    from apvfio.model.progress import Progress

_BEAT = 0.2
_CLEANUP = 10.0
"""Seconds that libvirt has to end what came to nothing at the destination."""


class Mover:
    """Takes the steps of one guest's migration; ``letter`` tells both hosts what it needs."""

    def __init__(
        self,
        system: System,
        here: Guests,
        there: Guests,
        other: OtherHost,
        *,
        uuid: str,
        letter: bytes,
        terms: Terms,
        progress: Progress,
    ) -> None:
        self._system = system
        self._here = here
        self._there = there
        self._other = other
        self._uuid = uuid
        self._letter = letter
        self._terms = terms
        self._progress = progress
        self._mdev = ""
        self._undefine_there = True
        self.done: list[str] = []
        """The steps taken so far, of `apvfio.migration.stages`."""

    def see(self) -> GuestPlaces:
        """Where the guest is now."""
        here, device_here = self._look(self._here)
        there, device_there = self._look(self._there)
        return GuestPlaces(here, there, device_here, device_there, lease_here=bool(self._leases()))

    def _look(self, place: Guests) -> tuple[bool, bool]:
        """Whether the guest runs at ``place``, and has its device there."""
        guest = place.running(self._uuid)
        if guest is None:
            return False, False
        try:
            return True, hotplug.attached(guest) is not None
        except ApvfioError:
            if place.running(self._uuid):
                raise
            return False, False  # it has just ended

    def go(self) -> None:
        """Take the guest to the destination; on any error it goes back, and the sentence says so."""
        seen = self.see()
        try:
            self._take(stages.stages_ahead(seen))
        except Exception as caught:  # whatever it is, the guest does not stay half way
            error = caught if isinstance(caught, ApvfioError) else unexpected(caught)
            if stages.PLUG in self.done:
                error = error.adding("It runs at the destination and has its queues there.")
            elif seen.here:  # else it was there already: nobody knows any more whether it shall come back
                error = self._gone_back(error)
            raise error from None

    def go_back(self) -> None:
        """Bring the guest back here, however far it has come."""
        self._take(stages.stages_back(self.see()))

    def _settled(self) -> GuestPlaces:
        """Where the guest is when libvirt has cleaned up behind a migration that failed."""
        deadline = time.monotonic() + _CLEANUP
        seen = self.see()
        while seen.here and seen.there and time.monotonic() < deadline:
            time.sleep(_BEAT)
            seen = self.see()
        return seen

    def _take(self, steps: list[str]) -> None:
        for step in steps:
            self._progress(stages.WORDS[step])
            _STEPS[step](self)
            self.done.append(step)
        self._progress("")

    def _gone_back(self, error: ApvfioError) -> ApvfioError:
        """Go back; the error to tell."""
        with uninterrupted():
            try:
                self._take(stages.stages_back(self._settled()))
            except ApvfioError as second:
                try_again = "Give the command again to go on, or with --back to go back"
                return error.adding(f"Going back failed, too: {second.sentence} {try_again}.")
        return error.adding("It runs here with its queues, and nothing is held at the destination.")

    def _expect(self) -> None:
        self._mdev = self._other.expect(self._letter)

    def _unplug(self) -> None:
        self._note_unplugged(awaits=True)
        hotplug.detach(self._guest(self._here), patience=self._terms.patience or hotplug.PATIENCE)

    def _move(self) -> None:
        guest = self._guest(self._here)
        self._undefine_there = not self._there.knows(self._uuid)
        try:
            undefine = not self._terms.keep_definition
            transfer(guest, self._there, self._terms, undefine=undefine)
        except ApvfioError:
            seen = self._settled()
            if seen.here or not seen.there:
                raise
            # It has arrived, and only the news has not.

    def _plug(self) -> None:
        hotplug.attach(self._guest(self._there), self._mdev)

    def _return(self) -> None:
        # libvirt's hook has done it, unless something held it up.
        if self._leases():
            release_guest(self._system, self._uuid, progress=self._progress)

    def _expect_back(self) -> None:
        destination.expect(self._system, self._letter)

    def _move_back(self) -> None:
        guest = self._guest(self._there)
        undefine = self._undefine_there and not self._terms.keep_definition
        transfer(guest, self._here, self._terms._replace(patience=None), undefine=undefine)

    def _plug_back(self) -> None:
        hotplug.attach(self._guest(self._here), self._leases()[0].mdev)

    def _give_up(self) -> None:
        self._note_unplugged(awaits=False)
        self._other.give_up(self._letter)

    def _note_unplugged(self, *, awaits: bool) -> None:
        """Keep a reconcile from returning the queues of a guest whose device is out, or no longer."""
        with suppress(ApvfioError):  # a lock that is held meanwhile holds up no migration
            await_device(self._system, self._uuid, awaits=awaits)

    def _guest(self, place: Guests) -> Guest:
        guest = place.running(self._uuid)
        if guest is None:
            raise ApvfioError("it has ended.", remedy="See 'virsh list --all' on both hosts.")
        return guest

    def _leases(self) -> list[Lease]:
        leases = ledger_file.load(self._system.files, self._system.boot_id).of_guest(self._uuid)
        return [lease for lease in leases if lease.state != ENDING]


_STEPS: dict[str, Callable[[Mover], None]] = {
    stages.EXPECT: Mover._expect,
    stages.UNPLUG: Mover._unplug,
    stages.MOVE: Mover._move,
    stages.PLUG: Mover._plug,
    stages.RETURN: Mover._return,
    stages.EXPECT_BACK: Mover._expect_back,
    stages.MOVE_BACK: Mover._move_back,
    stages.PLUG_BACK: Mover._plug_back,
    stages.GIVE_UP: Mover._give_up,
}

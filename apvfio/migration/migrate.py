# SPDX-License-Identifier: Apache-2.0
"""Migrate a guest to another host with its queues, or leave it here with them.

If a step fails or is interrupted, the migration is undone. If this process dies, the guest continues to run
where it is, perhaps without its device. The same command, given again, continues the migration, and with
``--back`` it undoes the migration (`apvfio.migration.stages`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.kernel_move import begin_move, end_move
from apvfio.engine.migration_lease import await_device
from apvfio.engine.stop import release_guest
from apvfio.libvirt import hotplug
from apvfio.libvirt.live_guest import this_process
from apvfio.migration import destination, stages
from apvfio.migration.places import ABSENT, HALTED, UNKNOWN, GuestPlaces, Presence, StrandedError
from apvfio.migration.transfer import budget_is_over, transfer, uninterrupted
from apvfio.migration.transfer_process import Order
from apvfio.model.errors import ApvfioError, HostError, unexpected
from apvfio.model.ledger import ENDING
from apvfio.store import ledger_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest
    from apvfio.migration.budget import Budget
    from apvfio.migration.daemon import Daemon
    from apvfio.migration.hold import Hold
    from apvfio.migration.hosts import OtherHost
    from apvfio.migration.transfer import Terms
    from apvfio.migration.transfer_process import TransferProcess
    from apvfio.model.ledger import Lease
    from apvfio.model.matrix import Matrix
    from apvfio.model.progress import Progress

_BEAT = 0.2
_CLEANUP = 10.0
"""Seconds that libvirt has to end a failed migration,"""
_RESTART = 3.0
"""and to be there again."""


class Ends(NamedTuple):
    """Both ends of a migration."""

    system: System
    """This host."""
    here: Daemon
    there: Daemon
    other: OtherHost
    """apvfio at the destination."""
    ahead: TransferProcess
    """For the way there,"""
    back: TransferProcess
    """and for the way back."""


class Mover:
    """Takes the steps of one guest's migration."""

    def __init__(
        self,
        ends: Ends,
        *,
        uuid: str,
        terms: Terms,
        budget: Budget,
        progress: Progress,
    ) -> None:
        self._ends = ends
        self._system, self._here, self._there, self._other = ends[:4]
        self._uuid = uuid
        self.letter = b""
        """The guest as both hosts need to know it (`minimal_xml`). Set it before the first step."""
        self.by_kernel: Matrix | None = None
        """The queues of a guest that the kernel takes along with its device; set it before the first step."""
        self._holds_here = False
        self._hold_there: Hold | None = None
        self._waited_for = False
        """Whether the destination still waited for the guest when the hold there ended."""
        self._terms = terms
        self._budget = budget
        self._progress = progress
        self._mdev = ""
        self._known_there = False
        self._autostart = False
        self._moved = False
        """Whether libvirt has begun to move it: only then may a destination that does not answer have it."""
        self.done: list[str] = []
        """The steps taken so far, of `apvfio.migration.stages`."""
        self.warnings: list[str] = []
        """Failures without harm to the guest, in clauses."""

    def see(self) -> GuestPlaces:
        """Where the guest is now."""
        here = self._here.look(self._uuid)
        if here.state == UNKNOWN and self._has_ended_here():
            here = Presence(ABSENT)
        there = self._there.look(self._uuid)
        defined = here.state == ABSENT and not self._terms.keep_definition and self._here.knows(self._uuid)
        return GuestPlaces(here, there, lease_here=bool(self._leases()), defined_here=defined)

    def go(self) -> None:
        """Take the guest to the destination; on any error it goes back. StrandedError says where it is."""
        seen = self.see()
        try:
            self._take(stages.stages_ahead(seen, by_kernel=self.by_kernel is not None))
        except Exception as caught:  # whatever it is, the guest does not stay half way
            error = caught if isinstance(caught, ApvfioError) else unexpected(caught)
            self._budget.turn_back()
            with uninterrupted():
                self._let_go()
                # A guest that was there before this command began comes back only on request.
                if not _HAS_QUEUES_THERE.intersection(self.done) and not seen.there.runs:
                    error = self._gone_back(error)
                raise self.stranded(error) from None

    def go_back(self) -> None:
        """Bring the guest back here, however far it has come. StrandedError if that fails."""
        self._budget.turn_back()
        try:
            self._go_back(asked=True)
            here = self._here.look(self._uuid)
            if here.state == ABSENT:
                raise stages.runs_nowhere()
            if not here.runs:
                raise HostError(
                    here.why or "it has been halted again.", remedy="See 'virsh domstate --reason'."
                )
        except ApvfioError as error:
            raise self.stranded(error) from None

    def stranded(self, error: ApvfioError) -> ApvfioError:
        """The error to tell, with where the guest is now."""
        self._budget.turn_back()
        stranded = StrandedError(error, self._settled(), moved=self._moved)
        if stranded.has_queues is False:
            stranded.remedy = "Repeat the command to continue, or add --back to undo the migration."
        return stranded

    def _gone_back(self, error: ApvfioError) -> ApvfioError:
        """Go back; the error to tell."""
        try:
            self._go_back(asked=False)
        except ApvfioError as second:
            return error.adding(f"Undoing the migration failed, too: {second.sentence}")
        if not self.warnings:
            return error.adding("Nothing is held for it at the destination.")
        return error.adding("".join(f"{text[0].upper()}{text[1:]}." for text in self.warnings))

    def _go_back(self, *, asked: bool) -> None:
        """Plug the device in first, which needs only this host, then ask the destination."""
        here = self._settled_here()
        lease_here = bool(self._leases())
        if here.runs and not here.device and lease_here:
            self._take([stages.PLUG_BACK])
        self._take(stages.stages_back(self._settled(), asked=asked))

    def _settled_here(self) -> Presence:
        """The guest here, once libvirt here has come to an end with it."""
        deadline = self._deadline()
        here = self._here.look(self._uuid)
        while (here.state in (HALTED, UNKNOWN) or self._here.is_migrating(self._uuid)) and self._may_wait(
            deadline
        ):
            here = self._here.look(self._uuid)
        return here

    def _settled(self) -> GuestPlaces:
        """Where the guest is when libvirt has cleaned up behind a migration.

        A daemon that does not answer may just be starting again; for that the wait is short.
        """
        begun, deadline = time.monotonic(), self._deadline()
        seen = self.see()
        while not _is_clear(seen) and self._may_wait(deadline):
            silent = UNKNOWN in (seen.here.state, seen.there.state)
            if silent and time.monotonic() > begun + _RESTART:
                break
            seen = self.see()
        return seen

    def _deadline(self) -> float:
        """Until when to wait for libvirt: other steps need time, too."""
        return time.monotonic() + min(_CLEANUP, self._budget.left() / 3)

    @staticmethod
    def _may_wait(deadline: float) -> bool:
        time.sleep(_BEAT)
        return time.monotonic() < deadline

    def _take(self, steps: list[str]) -> None:
        for step in steps:
            self._progress(stages.WORDS[step])
            try:
                if self._budget.left() <= 0:
                    raise budget_is_over(self._budget)
                _STEPS[step](self)
            except ApvfioError as error:
                if self._budget.returning and step in _AT_THE_OTHER_HOST:
                    # The guest has its queues. The destination returns those that are not used.
                    later = (
                        "after two minutes, 'apvfio reconcile' there returns the queues that are held for it"
                    )
                    self.warnings.append(f"{error.clause}; {later}")
                elif isinstance(error, HostError) and self._budget.left() <= 0:
                    raise budget_is_over(self._budget) from None
                else:
                    raise
            else:
                self.done.append(step)
        self._progress("")

    def _expect(self) -> None:
        self._mdev = self._other.expect(self.letter).mdev

    def _unplug(self) -> None:
        self._note_unplugged(awaits=True)
        # The last question must be answered in time, too.
        patience = min(hotplug.PATIENCE, max(0.0, self._budget.left() - 1))
        hotplug.detach(self._here.running(self._uuid), patience=patience)

    def _expect_same(self) -> None:
        assert self.by_kernel
        begin_move(self._system, self._uuid, self.by_kernel, this_process())
        self._holds_here = True
        self._hold_there = self._other.hold(self.letter)

    def _let_go(self) -> None:
        """Allow changes of masks and overrides again on both hosts; a failure is a warning."""
        held, self._hold_there = self._hold_there, None
        if held:
            try:
                self._waited_for = self._other.let_go(held)
            except ApvfioError as error:
                self.warnings.append(f"{error.clause}; {_LATER}")
        if self._holds_here:
            self._holds_here = False
            try:
                end_move(self._system, self._uuid, self._progress)
            except ApvfioError as error:
                self.warnings.append(f"{error.clause}; 'apvfio reconcile' makes the returns that are pending")

    def _move_by_kernel(self) -> None:
        assert self._hold_there
        self._move_with(self._hold_there.beat)
        self._let_go()

    def _move(self) -> None:
        self._move_with(self._plug_on_arrival)

    def _move_with(self, meanwhile: Callable[[], None]) -> None:
        guest = self._here.running(self._uuid)
        self._known_there = self._there.guests().knows(self._uuid)
        self._autostart = guest.persistent and guest.autostart
        self._moved = True
        order = self._order(guest, self._there, undefine=not self._terms.keep_definition)
        try:
            transfer(self._ends.ahead, order, self._budget, abort=guest.abort, meanwhile=meanwhile)
        except ApvfioError:
            if self._settled_here().runs or not self._settled().there.runs:
                raise
            # The guest has arrived; only libvirt's report of that is missing.

    def _order(self, guest: Guest, target: Daemon, *, undefine: bool) -> Order:
        back, persistent = target is self._here, guest.persistent
        return Order(
            uuid=self._uuid,
            source=(self._there if back else self._here).uri,
            target=target.uri,
            route=self._terms.route_back if back else self._terms.route,
            persist=persistent,
            undefine=persistent and undefine,
            encrypted=self._terms.encrypted,
        )

    def _plug_on_arrival(self) -> None:
        """Plug the device in as soon as the guest runs there: libvirt here may yet wait for its hooks."""
        there = self._there.look(self._uuid)
        if there.runs and not there.device:
            with suppress(ApvfioError):  # the step that follows says why
                self._plug()

    def _plug(self) -> None:
        hotplug.attach(self._there.running(self._uuid), self._mdev)

    def _end_here(self) -> None:
        self._here.running(self._uuid).destroy()

    def _end_there(self) -> None:
        self._there.running(self._uuid).destroy()

    def _return(self) -> None:
        """Check that the guest has left nothing here, and that it has its queues there."""
        seen = self._settled()
        if not (seen.there.runs and seen.there.device):
            raise ApvfioError(
                "it did not stay at the destination with its device.", remedy="See its log there."
            )
        if seen.here.state == HALTED:
            self._end_here()
        elif seen.here.state != ABSENT:
            raise HostError(seen.here.why or "it still runs here.", remedy="Check libvirt's daemon here.")
        if not self._terms.keep_definition:
            self._move_definition(self._here, self._there)
        # libvirt's hook has done it, unless something held it up.
        if self._leases():
            release_guest(self._system, self._uuid, progress=self._progress)
        # The kernel may have brought other queues than the letter names.
        if stages.MOVE in self.done:
            self._waited_for = self._other.expect(self.letter).waits
        if self._waited_for:
            raise HostError(
                "libvirt's hook did not run at the destination, so nothing returns its queues when it stops.",
                remedy="Run 'apvfio install' there.",
            )

    def _move_definition(self, source: Daemon, target: Daemon) -> None:
        """Leave no definition where the guest no longer runs: libvirt does that unless it dies before."""
        left, arrived = source.guests().by_uuid(self._uuid), target.running(self._uuid)
        if not arrived.persistent:
            return
        if self._autostart or (left and left.persistent and left.autostart):
            arrived.start_with_host()
        if left and not left.active:
            left.undefine()

    def _expect_back(self) -> None:
        destination.expect(self._system, self.letter)

    def _move_back(self) -> None:
        guest = self._there.running(self._uuid)
        keep = self._known_there or self._terms.keep_definition
        self._autostart = guest.persistent and guest.autostart
        self._moved = True
        self._budget.turn_back(inf)
        order = self._order(guest, self._here, undefine=not keep)
        transfer(self._ends.back, order, self._budget, abort=guest.abort)
        self._budget.turn_back()
        if not keep:
            self._move_definition(self._there, self._here)

    def _resume(self) -> None:
        self._here.running(self._uuid).resume()

    def _plug_back(self) -> None:
        hotplug.attach(self._here.running(self._uuid), self._leases()[0].mdev)

    def _give_up(self) -> None:
        self._note_unplugged(awaits=False)
        self._other.give_up(self.letter)

    def _note_unplugged(self, *, awaits: bool) -> None:
        """Record that the guest's device is unplugged, so that a reconcile keeps its queues; or no longer."""
        with suppress(ApvfioError):  # a lock that is held meanwhile holds up no migration
            await_device(self._system, self._uuid, awaits=awaits)

    def _has_ended_here(self) -> bool:
        """Whether the guest has no QEMU process here, which can be told without libvirt on a real host."""
        running = self._system.running_guests()
        return running is not None and self._uuid not in running

    def _leases(self) -> list[Lease]:
        leases = ledger_file.load(self._system.files, self._system.boot_id).of_guest(self._uuid)
        return [lease for lease in leases if lease.state != ENDING]


def _is_clear(seen: GuestPlaces) -> bool:
    """Whether the guest is at one host, or certainly at none."""
    states = {seen.here.state, seen.there.state}
    return not states & {HALTED, UNKNOWN} and not (seen.here.runs and seen.there.runs)


_AT_THE_OTHER_HOST = (stages.END_THERE, stages.GIVE_UP)
"""Steps of the way back that need not succeed."""
_HAS_QUEUES_THERE = frozenset([stages.PLUG, stages.MOVE_BY_KERNEL])
"""Steps after which the guest does not come back: it has what it needs."""
_LATER = "masks and overrides of the destination cannot be changed until the process there has ended"
_STEPS: dict[str, Callable[[Mover], None]] = {
    stages.EXPECT: Mover._expect,
    stages.EXPECT_SAME: Mover._expect_same,
    stages.UNPLUG: Mover._unplug,
    stages.MOVE: Mover._move,
    stages.MOVE_BY_KERNEL: Mover._move_by_kernel,
    stages.PLUG: Mover._plug,
    stages.END_HERE: Mover._end_here,
    stages.END_THERE: Mover._end_there,
    stages.RETURN: Mover._return,
    stages.EXPECT_BACK: Mover._expect_back,
    stages.MOVE_BACK: Mover._move_back,
    stages.RESUME: Mover._resume,
    stages.PLUG_BACK: Mover._plug_back,
    stages.GIVE_UP: Mover._give_up,
}

# SPDX-License-Identifier: Apache-2.0
"""A host with all its actors: apvfio, guests, administrators, mdevctl, the machine itself. Operations are
plain data, so that a run can be told, repeated and shortened; after each one the promises are checked.

What can be promised when others interfere, in its weakest true form:

- A queue is never in two devices, and the ledger can always be read.
- A bit or an override that apvfio did not change itself is as the others left it, whatever fails or dies:
  the host with its pending returns done is the twin on which apvfio never was (`model.shadow`).
- A device that apvfio did not make stays as it is.
- A call during which nobody else acts takes nothing from a guest that runs, and from the host no reserved
  queue but one that a running guest got by its override before it was reserved.
  What a guest has by a change that was broken off goes again.
- A start or a change that succeeds has given the guest all its queues; one that is refused leaves the host
  as it was, or as a reconcile would have made it.
- After a reconcile the ledger says what is there, every return that the kernel takes is done, and another
  reconcile finds nothing to do.
- When all guests have stopped and the others' devices are gone, nothing of apvfio's is left.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from apvfio.engine import live_change
from apvfio.engine.edit_masks import change_masks
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.criteria import CardCriteria, Criteria
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import CHANGING
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.matrix import Matrix
from apvfio.plan.mask_edit import MaskEdit
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from hosts import a_request, guest, mdev
from memory_host import Killed, Machine
from model import rivals
from model.crashes import KILL, TRUE, Fault
from model.endings import (
    lives,
    record_stop,
    require_home,
    require_no_record,
    require_untouched,
    stops,
)
from model.lives import Lives
from model.promised import (
    ViolationError,
    require,
    require_changed,
    require_harmless,
    require_reconciled,
    require_refused,
    require_started,
)
from model.verbs import serve
from model.views import promises, shared_queues, view

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from apvfio.model.request import Request
    from model.views import View

    Op = tuple[Any, ...]

GUESTS = (1, 2, 3)
ATTACHED, RUNS = "attached", "runs"
COMES_UP = (ATTACHED, ATTACHED, RUNS, "")
"""Whether a guest that has got its queues opens its device, only has a QEMU process, or not even that."""
BY_HOOK, RECORDED, UNRECORDED, STRAYED = "by hook", "recorded", "unrecorded", "strayed"
HOW = (BY_HOOK, BY_HOOK, RECORDED, UNRECORDED, STRAYED)
"""How libvirt says that a guest has stopped: the hook records it and its interpreter serves it; only
the record is made; no record can be made. Or another daemon's start of the guest failed while it runs."""
MODES = ("masks", "overrides")
REQUESTS = (
    ("0", "1"),
    ("0", "1-2"),
    ("1", "2,4"),
    ("0-1", "4"),
    ("1,3", "1"),
    ("3", "1-2,4"),
    ("0-1,3", "2"),
    ("5", "1"),
    ("3", "4,9"),
)
CRITERIA = (
    a_criteria("cca"),
    a_criteria("ep11", domains=2),
    a_criteria("cca", adapters=2),
    Criteria((CardCriteria("cca"), CardCriteria("ep11")), control_usage=True),
)


class World(Lives):
    """The host, and what there is to be done with it."""

    def do(self, op: Op) -> None:
        """Do the operation and check; ViolationError says which promise was broken."""
        kind, *words = op
        self.count[kind] += 1
        self.meddled = False
        with self.clock.running():
            getattr(self, f"do_{kind}")(*words)
            self.meddled = False
            self.own_what_is_theirs()
            self.check()

    def check(self) -> None:
        """What always holds."""
        shared = shared_queues(self.machine.kernel)
        require(f"{shared} share queues", not shared)
        for odd in self.shadow.differences():
            raise ViolationError(odd)
        for uuid, matrix in self.foreign.items():
            there = self.machine.kernel.state.mdevs.get(uuid)
            require(f"the foreign device {uuid} is {there}", there is not None and there.matrix == matrix)
        live = self.machine.ledger.active_leases()
        for n, lease in enumerate(live):
            for other in live[:n]:
                overlap = lease.matrix.overlap(other.matrix)
                require(f"{lease.guest} and {other.guest} both hold {overlap}", overlap.empty)

    # Guests.

    def do_start(self, n: int, asked: int, comes_up: str, fault: Op | None = None) -> None:
        """Guest ``n`` starts; when it has its queues its QEMU starts, or does not, as ``comes_up`` says.

        If it runs already, another daemon starts it.
        """
        request = self.request(n, asked)
        before, runs, said = self.machine.twin(), self.lives(n), self.stopped.pop(n, None)
        if self.call(partial(start_guest, request=request), fault, but=0 if runs else n, starts=True):
            self.has_queues(n)
            if not self.meddled:
                require_started(self.machine, request)
            if comes_up:
                self.run_qemu(n, attach=comes_up == ATTACHED)
            return
        if fault is None:
            require_refused(self.machine, before, request)
        self.has_no_queues(n, said, fault)

    def do_expect(self, n: int, asked: int, fault: Op | None = None) -> None:
        """Guest ``n`` is to arrive by a migration, and has its queues before."""
        request = self.request(n, asked)
        before, runs, said = self.machine.twin(), self.lives(n), self.stopped.pop(n, None)
        expect = partial(start_guest, request=request, expected=True)
        if self.call(expect, fault, but=0 if runs else n, starts=True):
            self.has_queues(n)
            self.expected.add(n)
            return
        if fault and self.held(n) and self.machine.ledger.leases[mdev(n)].expected:
            # The last write took effect, and seemed to fail.
            self.expected.add(n)
        if fault is None:
            require_refused(self.machine, before, request)
        self.has_no_queues(n, said, fault)

    def do_arrive(self, n: int, comes_up: bool, fault: Op | None = None) -> None:
        """libvirt starts guest ``n`` without its device, which an expected guest gets once it runs here."""
        was_expected = n in self.expected and self.held(n)
        waits = was_expected and mdev(n) in self.machine.kernel.state.mdevs
        if self.call(serve("prepare", a_request("0", "1", n), device=False), fault):
            require(f"g{n} starts without a device, and nobody expects it", was_expected)
            self.expected.discard(n)
            self.has_queues(n)
            if comes_up:
                self.run_qemu(n, attach=False)
        elif fault is None and not self.meddled:
            require(f"g{n} was expected and is refused", not waits)

    def do_change(self, n: int, asked: int, kept: bool, fault: Op | None = None) -> None:
        """Guest ``n`` gets other queues while it runs; for good, or not."""
        request, before = self.request(n, asked), self.machine.twin()
        changer = self.processes.start()

        def change(process: Machine) -> None:
            try:
                done = live_change.apply_change(process, request, changer)
                (live_change.commit if kept else live_change.roll_back)(process, done)
            finally:
                self.processes.end(changer.pid)

        if not self.call(change, fault, but=n):
            if fault is None:
                require_refused(self.machine, before, request)
        elif not self.meddled and fault is None:
            require_changed(self.machine, before, request, kept=kept)

    def do_stop(self, n: int, how: str, fault: Op | None = None) -> None:
        """Guest ``n`` ends, or has not come up, and libvirt says so in one of the ways `HOW`."""
        if how != STRAYED:
            self.do_die(n)
        runs, said = self.lives(n), int(self.clock.now)
        if how != UNRECORDED:
            record_stop(self.machine, n, said)
        done = how == RECORDED or self.call(
            serve("release", a_request("0", "1", n)), fault, but=0 if runs else n
        )
        # Whoever opens the device while the stop is served has time until the grace is over.
        known = not self.meddled and (done or n in stops(self.machine))
        if not self.processes.of_guest(guest(n)):
            self.began.pop(n, None)
            self.expected.discard(n)
            if known:
                self.stopped[n] = said
        elif how == STRAYED:
            self.expected.discard(n)

    def do_release(self, n: int) -> None:
        """A person releases a guest, which is refused as long as it shows a sign of life."""
        runs = self.lives(n) and self.held(n) and mdev(n) in self.machine.kernel.state.mdevs
        done = self.call(partial(release_guest, guest_uuid=guest(n)), None, but=0 if runs else n)
        require(f"g{n} was released while it lives", not (runs and done))

    def do_force(self, n: int, fault: Op | None = None) -> None:
        """A person insists; the guest goes on without its queues."""
        self.forced.add(mdev(n))
        self.call(partial(release_guest, guest_uuid=guest(n), force=True), fault)

    def do_reconcile(self, fault: Op | None = None) -> None:
        """The timer, or a person."""
        done = self.call(reconcile_host, fault)
        if done and not self.meddled and fault is None:
            require_reconciled(self.machine)
            require_no_record(self.machine)

    # Administrators, through apvfio.

    def do_masks(self, apmask: str, aqmask: str, active: bool, stored: bool, fault: Op | None = None) -> None:
        """``apvfio masks``."""
        edits = [parse_mask_spec(text) if text else None for text in (apmask, aqmask)]
        state = self.machine.kernel.state
        before, had = view(self.machine).masks, self.machine.ledger.pending
        change = MaskEdit(edits[0], edits[1], active, stored)
        done = self.call(lambda system: change_masks(system, change, lambda _: None), fault, admin=True)
        if not active:
            # What ended guests held may return meanwhile.
            now = view(self.machine).masks
            changed_only = (now - before) | (before - now)
            require("the active masks were changed", self.meddled or not changed_only - had)
            return
        bits = self.machine.ledger.pending
        for name, was, edit, was_pending, now_pending in zip(("apmask", "aqmask"), before, edits, had, bits):
            moved = getattr(state, name)
            changed = (moved - was) | (was - moved)
            ordered = edit.apply(was) if edit else was
            allowed = (ordered - was) | (was - ordered)
            require(f"{name} changed in {changed}", self.meddled or changed - was_pending <= allowed)
            # What was done and undone again has come back online.
            ids = allowed if not done else changed
            self.shadow.moved |= {
                q for q in state.queues if (q.adapter if name == "apmask" else q.domain) in ids
            }
            # What he ordered is his from now on, on the twin as well.
            self.shadow.order(name, moved | now_pending)
            self.shadow.unsure[name] -= (changed | was_pending) - now_pending

    def do_mode(self, mode: str, fault: Op | None = None) -> None:
        """``apvfio mechanism``."""
        before = view(self.machine)
        self.call(lambda system: switch_mechanism(system, mode), fault, admin=True)
        after = view(self.machine)
        if (before.masks, before.overrides, before.drivers) != (after.masks, after.overrides, after.drivers):
            self._ordered_anew()

    def do_settle(self) -> None:
        """All guests stop and the others' devices go: then nothing of apvfio's is left."""
        for n in GUESTS:
            self.do_die(n)
        self.do_close()
        for uuid in list(self.foreign):
            rivals.mdevctl_stop(self.shadow, uuid)
        self.foreign.clear()
        for n in GUESTS:
            self.call(partial(release_guest, guest_uuid=guest(n)), None, but=n)
        if not self.call(reconcile_host, None):
            return
        require_reconciled(self.machine)
        left = promises(self.machine.ledger)
        require(f"there is left {left}", not (left.leases or left.pending or left.overrides))
        require_no_record(self.machine)
        devices = list(self.machine.kernel.state.mdevs)
        require(f"the devices {devices} are left", not devices)
        for odd in self.shadow.settled_differences():
            raise ViolationError(odd)
        self.shadow.resync()

    # What an operation of apvfio's is made of.

    def request(self, n: int, asked: int) -> Request:
        """What guest ``n`` requests, one of the requests and then of the wishes."""
        if asked < len(REQUESTS):
            return a_request(*REQUESTS[asked], n)
        return a_request("0", "1", n)._replace(matrix=Matrix(), criteria=CRITERIA[asked - len(REQUESTS)])

    def call(
        self,
        verb: Callable[[Machine], object],
        fault: Op | None,
        *,
        but: int = 0,
        starts: bool = False,
        admin: bool = False,
    ) -> bool:
        """Run ``verb`` as a process of its own, struck by ``fault``; whether it came to its end.

        It may take what the guest ``but`` has, and what was to be taken by force. A call that ``starts`` a
        guest returns what others have left, even if it is refused.
        """
        process, locks = self.machine.process(), Counter[str]()
        process.lock = partial(_counted, locks, process.lock)  # type: ignore[method-assign]
        before, policy = self._to_keep(), self.machine.files.texts.get(POLICY)
        alive, may_go = lives(self.machine, self.awaited()), {mdev(but), *self.forced}
        self.meddled = False
        if fault:
            n, what, *words = fault
            process.faults.arm(n, partial(self._strike, process, what, words), late=what.startswith("late "))
        try:
            verb(process)
            done = True
        except ApvfioError as error:
            done = False
            self.count["refused"] += 1
            require(f"an error that says nothing: {error!r}", bool(error.sentence))
        except Killed:
            done = False
        if not self.meddled:
            require_harmless(self.machine, before, policy or "", but=may_go, admin=admin)
            require_untouched(self.machine, alive, may_go)
            if (done or starts) and fault is None and locks:
                require_home(self.machine, self.stopped, self.clock.now)
        return done

    def _to_keep(self) -> View:
        """The host; of a guest whose change was broken off what it had before and has still."""
        now = view(self.machine)
        for lease in self.machine.ledger.leases.values():
            if lease.state == CHANGING and lease.mdev in now.guests:
                back = lease.before.matrix if lease.before else lease.matrix
                now.guests[lease.mdev] = now.guests[lease.mdev].overlap(back)
        return now

    def _strike(self, process: Machine, what: str, words: list[Any]) -> None:
        self.count["struck"] += 1
        if what == "meanwhile":
            self.meddled = self.shadow.meanwhile = True
            self.do_inner(words)
            self.shadow.meanwhile = False
            return
        number = KILL if what.endswith("kill") else words[0]
        fault = Fault(process.faults.count, number, what.startswith("late "), process.faults.paths[-1])
        if (fault.path.rpartition("/")[2], number) not in TRUE:
            fault.strike()

    def do_inner(self, op: list[Any]) -> None:
        """Somebody else acts while apvfio does."""
        kind, *words = op
        self.count[f"meanwhile {kind}"] += 1
        getattr(self, f"do_{kind}")(*words)

    def _ordered_anew(self) -> None:
        """An administrator's order has reached all of the host; pending returns are on top of it."""
        ledger = self.machine.ledger
        if not ledger.leases:
            self.shadow.resync()
            for name, pending_bits in zip(("apmask", "aqmask"), ledger.pending):
                self.shadow.order(name, getattr(self.machine.kernel.state, name) | pending_bits)
        self.shadow.touched |= set(self.machine.kernel.state.queues)


def _counted(
    locks: Counter[str], lock: Callable[[], AbstractContextManager[None]]
) -> AbstractContextManager[None]:
    locks["taken"] += 1
    return lock()

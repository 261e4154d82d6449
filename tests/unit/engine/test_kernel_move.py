# SPDX-License-Identifier: Apache-2.0
"""The kernel migrates a guest with its device between two simulated hosts that have the draft of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.engine import drain, kernel_move
from apvfio.engine.claim import make_claim
from apvfio.engine.edit_masks import change_masks
from apvfio.engine.live_change import apply_change
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.postponed import waits
from apvfio.engine.preview import preview_plan
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import stop_guest
from apvfio.libvirt import hook
from apvfio.migration import destination
from apvfio.model.errors import ApvfioError, ConflictError, Exit, HostError, PolicyError
from apvfio.model.host import AP_MDEVS, OVERRIDES
from apvfio.model.ids import IdSet
from apvfio.model.ledger import HELD, LiveChange
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.matrix import Area, Matrix
from apvfio.model.process import Process
from apvfio.model.progress import no_progress
from apvfio.plan.mask_edit import MaskEdit
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import DRAFT_MIGRATION, LINUX_7_2
from apvfio.store import ledger_file
from apvfio.store.policy_file import POLICY
from apvfio.store.processes import GRACE, now
from domain_xml import ANY, MDEV, UUID, domain
from hosts import IBM_DOMAINS, a_lease, a_matrix, a_request, guest, mdev
from memory_host import IBM_ADAPTERS, Machine
from skipped_waits import skip_waits

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICE = MDEV.lower()
QUEUES = a_matrix("10", "1-2")._replace(control_domains=IdSet([4]))
LETTER = domain('<ap:matrix adapters="10" domains="1-2" control-domains="4"/>')
"""What the source tells the destination."""
OWN = domain('<ap:any mode="ep11" adapters="1" domains="2" control-domains="4"/>')
"""The guest as it is: it would be content with other queues."""
NO_MASK = MaskEdit(None, None, persistent=False)


def a_machine(profile: str = DRAFT_MIGRATION) -> Machine:
    machine = Machine(SimKernel.new(profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    machine.running = set()
    return machine


class Host:
    """A host, the process that sees to the migration there, and the guest's QEMU, if it is there."""

    def __init__(self, profile: str = DRAFT_MIGRATION) -> None:
        self.machine = a_machine(profile)
        assert self.machine.processes
        self.mover = self.machine.processes.start()
        self._qemu: Process | None = None

    def calls(self, operation: str, xml: bytes = OWN) -> int:
        """libvirt's hook is called for the guest; its exit code."""
        return hook.main(["db1", operation, "begin", "-"], self.machine, xml)

    def starts(self, xml: bytes = OWN) -> None:
        """The guest's QEMU starts, after the hook."""
        assert self.calls("prepare", xml) == Exit.OK
        assert self.machine.processes
        self._qemu = self.machine.processes.start(UUID, "db1")
        self.machine.processes.open(self._qemu.pid, DEVICE)

    def ends(self) -> None:
        """The guest's QEMU ends, and the hook is called."""
        assert self._qemu
        assert self.machine.processes
        self.machine.processes.end(self._qemu.pid)
        self._qemu = None
        assert self.calls("release") == Exit.OK

    def mover_dies(self) -> None:
        """The process that sees to the migration is gone."""
        assert self.machine.processes
        self.machine.processes.end(self.mover.pid)

    def masks(self) -> tuple[IdSet, IdSet]:
        """apmask and aqmask."""
        return self.machine.host.apmask, self.machine.host.aqmask

    def hold(self, letter: bytes = LETTER) -> None:
        """Expect the guest with its device, as ``incoming --hold`` does."""
        destination.hold(self.machine, letter, self.mover)

    def holds_for(self, matrix: Matrix = QUEUES) -> None:
        """Hold still what the guest leaves, as ``migrate`` does."""
        kernel_move.begin_move(self.machine, UUID, matrix, self.mover)


class Pair:
    """Two hosts; the guest runs here."""

    def __init__(self) -> None:
        self.here, self.there = Host(), Host()
        # Another adapter in the same mode would satisfy it just as well.
        self.there.machine.kernel.plug_adapter(5, "ep11")
        self.before = [host.machine.host for host in (self.here, self.there)]
        self.here.starts()

    def moves(self) -> None:
        """libvirt and the kernels have the guest move: the state is taken while it stands still."""
        self.there.starts()
        state = self.here.machine.kernel.save_device(DEVICE)
        self.there.machine.kernel.load_device(DEVICE, state)
        self.here.ends()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    skip_waits(monkeypatch)
    return Pair()


@pytest.fixture
def held(pair: Pair) -> Pair:
    """Both hosts hold still, and the guest has not left yet."""
    pair.here.holds_for()
    pair.there.hold()
    return pair


def test_there_with_the_very_same_queues(held: Pair) -> None:
    assert held.there.machine.host.mdevs == {DEVICE: QUEUES}
    held.moves()
    lease = held.there.machine.ledger.leases[DEVICE]
    assert (lease.matrix, lease.expected, lease.kernel_move) == (QUEUES, False, held.there.mover)
    # The source has returned everything at its guest's release, though its mover has not ended.
    assert held.here.machine.ledger.leases == {}
    assert held.here.machine.host == held.before[0]
    outcome = destination.let_go(held.there.machine, UUID, no_progress)
    assert outcome.ledger.leases[DEVICE] == lease._replace(kernel_move=None)
    assert kernel_move.end_move(held.here.machine, UUID).steps == []
    held.there.ends()
    assert held.there.machine.host == held.before[1]


def test_the_ledger_is_what_arrived(held: Pair) -> None:
    """An adapter that the guest has not here, for want of a queue, does not come with it."""
    arrived = a_matrix("10", "1")
    held.there.starts()
    state = held.here.machine.kernel.save_device(DEVICE)
    queues = {queue: one for queue, one in state.queues.items() if queue.domain == 1}
    held.there.machine.kernel.load_device(DEVICE, state._replace(queues=queues, control_domains=IdSet()))
    held.here.ends()
    destination.let_go(held.there.machine, UUID, no_progress)
    assert held.there.machine.ledger.leases[DEVICE].matrix == arrived
    assert not reconcile_host(held.there.machine.process()).seen


def test_a_plain_start_there_chooses_for_itself(pair: Pair) -> None:
    """Without a hold the guest gets what its annotation requests: other queues than it had."""
    pair.there.machine.kernel.state.cards[10].hwtype = 11
    pair.there.starts(domain(ANY.replace("cca", "ep11")))
    assert pair.there.machine.host.mdevs[DEVICE] != QUEUES


# What is held still.


def apply_mask(machine: Machine) -> None:
    change_masks(machine, NO_MASK._replace(apmask=parse_mask_spec("-1")), lambda _: None)


def start_another(machine: Machine) -> None:
    start_guest(machine, a_request("1", "4", 2))


def preview_another(machine: Machine) -> None:
    preview_plan(machine, a_request("1", "4", 2))


def claim_another(machine: Machine) -> None:
    make_claim(machine, mdev(3), a_matrix("1", "4"), Process(1, 1))


def change_live(machine: Machine) -> None:
    request = a_request("10", "1", 1)._replace(guest="db1", guest_uuid=UUID, mdev=DEVICE)
    apply_change(machine, request, Process(1, 1))


CHANGES = [apply_mask, start_another, preview_another, claim_another, change_live]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("side", ["here", "there"])
def test_nothing_changes_meanwhile(held: Pair, side: str, change: Callable[[Machine], None]) -> None:
    host: Host = getattr(held, side)
    before = host.machine.snapshot()
    says = rf"cannot be changed while the kernel migrates guest db1 \(process {host.mover.pid}\)"
    with pytest.raises(ConflictError, match=says) as caught:
        change(host.machine.process())
    assert caught.value.remedy == "Try again when that migration is over."
    assert host.machine.snapshot() == before


@pytest.mark.parametrize("change", CHANGES)
def test_when_the_mover_has_died_everything_is_allowed(held: Pair, change: Callable[[Machine], None]) -> None:
    held.here.mover_dies()
    change(held.here.machine.process())
    reconcile_host(held.here.machine)
    assert held.here.machine.ledger.leases[DEVICE].kernel_move is None


def test_the_mechanism_is_not_switched(held: Pair) -> None:
    """As always while a guest holds queues."""
    for host in (held.here, held.there):
        with pytest.raises(ConflictError, match="guest db1 holds queues"):
            switch_mechanism(host.machine, OVERRIDES)


def test_a_drain_clears_no_override(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    host.machine.files.texts[POLICY] = 'mechanism = "overrides"'
    host.hold()
    queue = "bus/ap/devices/01.0001/driver_override"
    host.machine.kernel.write(queue, "vfio_ap")
    area = Area(adapters=IdSet([1]))
    drain.begin_drain(host.machine, area)
    before = host.machine.snapshot()
    with pytest.raises(ConflictError, match="cannot be changed while"):
        drain.clear_overrides(host.machine, area)
    assert host.machine.snapshot() == before
    destination.let_go(host.machine, UUID, no_progress)
    assert drain.clear_overrides(host.machine, area)
    host.hold()
    with pytest.raises(ConflictError, match="cannot be changed while"):
        drain.end_drain(host.machine, area)
    assert host.machine.kernel.read(queue) == "\n"


def test_a_guest_whose_queues_are_free_starts(held: Pair) -> None:
    machine = held.here.machine
    masks = held.here.masks()
    there = {queue.adapter for queue, driver in machine.host.drivers.items() if driver == "vfio_ap"}
    assert there  # those of the guest, and collateral queues beside them
    free = [q for q, driver in machine.host.drivers.items() if driver == "vfio_ap" and not QUEUES.holds(q)]
    request = a_request(str(free[0].adapter), str(free[0].domain), 2)
    start_guest(machine, request)
    assert machine.host.mdevs[mdev(2)] == request.matrix
    assert held.here.masks() == masks
    stop_guest(machine, guest(2))
    assert mdev(2) not in machine.host.mdevs
    assert held.here.masks() == masks


def test_who_stops_meanwhile_is_served_afterwards(pair: Pair) -> None:
    """Its device goes at once, its queues go back to the host when the migration is over."""
    machine = pair.here.machine
    start_guest(machine, a_request("1", "4", 2))
    busy = pair.here.masks()
    pair.here.holds_for()
    stop_guest(machine, guest(2))
    assert (mdev(2) in machine.host.mdevs, pair.here.masks()) == (False, busy)
    assert any("masks and overrides cannot be changed" in said for said in waits(machine, machine.ledger))
    assert not reconcile_host(machine.process()).steps
    kernel_move.end_move(machine, UUID)
    assert pair.here.masks() != busy
    pair.here.ends()
    assert machine.host == pair.before[0]


# What can fail.


def test_an_older_kernel_holds_nothing() -> None:
    host = Host(LINUX_7_2)
    before = host.machine.snapshot()
    with pytest.raises(HostError, match="has no migratable in /sys/devices/vfio_ap/matrix/features"):
        host.hold()
    assert host.machine.snapshot() == before


def taken(machine: Machine) -> None:
    start_guest(machine, a_request("10", "1", 2))


def reserved(machine: Machine) -> None:
    machine.files.texts[POLICY] = '[reserve]\nqueues = ["0a.0001"]\n'


def absent(machine: Machine) -> None:
    machine.kernel.unplug_adapter(10)


@pytest.mark.parametrize(
    ("change", "error"), [(taken, ConflictError), (reserved, PolicyError), (absent, HostError)]
)
def test_the_very_same_queues_or_none(
    pair: Pair, change: Callable[[Machine], None], error: type[ApvfioError]
) -> None:
    """Though its annotation would be met by others."""
    change(pair.there.machine)
    before = pair.there.machine.snapshot()
    with pytest.raises(error):
        pair.there.hold()
    assert pair.there.machine.snapshot() == before


def test_every_write_of_a_hold_can_fail(pair: Pair) -> None:
    """The creation of the device, too: what was freed is returned, at once or as the hold is given up."""
    probe = pair.there.machine.twin()
    probe.faults.arm(0, lambda: None)
    destination.hold(probe, LETTER, pair.there.mover)
    assert probe.faults.count > 4

    def fail() -> None:
        raise OSError(5, "Input/output error")

    for at in range(1, probe.faults.count + 1):
        tried = pair.there.machine.twin()
        tried.faults.arm(at, fail)
        with pytest.raises((OSError, ApvfioError)):
            destination.hold(tried, LETTER, pair.there.mover)
        after = tried.process()
        destination.give_up(after, LETTER, no_progress)
        assert (after.host, after.ledger.leases) == (pair.before[1], {})


def test_the_move_fails_and_the_guest_stays(held: Pair) -> None:
    """The destination's QEMU ends before the switchover, as when the kernel refuses the state."""
    held.there.starts()
    older = held.there.machine.kernel.state.cards[10]
    older.hwtype -= 1
    with pytest.raises(OSError, match="Invalid argument"):
        held.there.machine.kernel.load_device(DEVICE, held.here.machine.kernel.save_device(DEVICE))
    older.hwtype += 1
    held.there.ends()
    for host in (held.there, held.here):
        kernel_move.end_move(host.machine, UUID)
    destination.give_up(held.there.machine, LETTER, no_progress)
    assert held.there.machine.host == held.before[1]
    lease = held.here.machine.ledger.leases[DEVICE]
    assert (lease.state, lease.matrix, lease.kernel_move) == (HELD, QUEUES, None)
    assert held.here.machine.host.mdevs == {DEVICE: QUEUES}


def test_killed_before_the_move_and_reconciled(held: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in (held.here, held.there):
        host.mover_dies()
        assert not reconcile_host(host.machine.process()).steps
        assert host.machine.ledger.leases[DEVICE].kernel_move is None
    assert held.here.machine.host.mdevs == held.there.machine.host.mdevs == {DEVICE: QUEUES}
    monkeypatch.setattr("apvfio.engine.lease_end.now", lambda: now() + GRACE + 1)
    assert reconcile_host(held.there.machine.process()).steps
    assert held.there.machine.host == held.before[1]


def test_killed_after_the_move_and_reconciled(held: Pair) -> None:
    held.moves()
    held.there.mover_dies()
    reconcile_host(held.there.machine.process())
    lease = held.there.machine.ledger.leases[DEVICE]
    assert (lease.state, lease.matrix, lease.kernel_move) == (HELD, QUEUES, None)
    held.there.ends()
    assert held.there.machine.host == held.before[1]


def test_the_masks_were_changed_all_the_same(held: Pair) -> None:
    """Another program took the queues: the guest is not let in with a device that lacks them."""
    held.there.machine.kernel.write(f"{AP_MDEVS.device(DEVICE)}/unassign_domain", "2")
    assert held.there.calls("prepare") == Exit.CONFLICT
    assert held.there.calls("release") == Exit.OK
    assert held.there.machine.host == held.before[1]


def test_the_source_has_changed_since_it_was_compared(pair: Pair) -> None:
    for matrix in (a_matrix("10", "1"), QUEUES._replace(control_domains=IdSet())):
        with pytest.raises(ConflictError, match="its queues have changed"):
            pair.here.holds_for(matrix)
    pair.here.ends()
    with pytest.raises(ConflictError, match="its queues have changed"):
        pair.here.holds_for()


def test_no_hold_begins_in_a_change(pair: Pair) -> None:
    machine = pair.here.machine
    ledger = machine.ledger
    live = a_lease("0", "1", 2)._replace(live_change=LiveChange(pair.here.mover, ""))
    machine.kernel.write("bus/ap/aqmask", "-1")
    machine.kernel.write(AP_MDEVS.create, live.mdev)
    for kind, number in (("adapter", 0), ("domain", 1)):
        machine.kernel.write(f"{AP_MDEVS.device(live.mdev)}/assign_{kind}", str(number))
    ledger_file.save(machine.files, ledger.with_lease(live))
    with pytest.raises(ConflictError, match="the queues of guest g2 are being changed"):
        pair.here.holds_for()


def test_a_hold_is_held_again(held: Pair) -> None:
    """The same command, given again after the first was killed."""
    before = held.there.machine.host
    held.there.mover_dies()
    assert held.there.machine.processes
    held.there.mover = held.there.machine.processes.start()
    held.there.hold()
    assert held.there.machine.host == before
    assert held.there.machine.ledger.leases[DEVICE].kernel_move == held.there.mover
    held.moves()


def test_the_ledgers_file_keeps_it(held: Pair) -> None:
    ledger = held.here.machine.ledger
    assert ledger.leases[DEVICE].kernel_move == held.here.mover
    ledger_file.save(held.here.machine.files, ledger)
    assert held.here.machine.ledger == ledger
    assert '"kernel_move": {' in held.here.machine.files.texts[ledger_file.LEDGER]

# SPDX-License-Identifier: Apache-2.0
"""A drain, and its restore, struck at each event: the same command, given again, goes on to its end.

Events are those of `test_live_guest`: libvirt's calls, writes to the kernel and writes of files.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EIO
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast
from unittest import mock

import pytest

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.libvirt import drain as draining
from apvfio.libvirt import live_guest
from apvfio.libvirt.guests import Guest, annotation
from apvfio.model.errors import ApvfioError
from apvfio.model.host import OVERRIDES
from apvfio.model.ids import IdSet
from apvfio.model.ledger import HELD
from apvfio.model.matrix import Apqn, Area, Matrix
from apvfio.model.policy import DRAINS
from apvfio.model.request import Request
from apvfio.sim.kernel import SimKernel
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from hosts import guest, mdev
from memory_host import Killed, Machine
from model.crashes import Fault
from model.views import disagreements, still_pending, view
from running_guests import RunningGuest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CRITERIA = a_criteria("ep11", adapters=1, domains=2)
CARD = Area(adapters=IdSet([0]))
KINDS = ("6.1", "7.2", OVERRIDES)
LIMIT = 400
ADMINS = {Apqn(0, 4): "vfio_ap", Apqn(0, 27): "vfio_ap"}
"""The overrides of the administrator, where there are any."""


def running(kind: str) -> RunningGuest:
    """A guest by criteria that runs on card 0; with overrides, the administrator has set some there."""
    profile = "7.2" if kind == OVERRIDES else kind
    adapters = dict.fromkeys((0, 1, 10), "ep11")
    machine = Machine(SimKernel.new(profile, adapters=adapters, domains=IdSet([1, 2, 4, 27])))
    machine.running = set()
    if kind == OVERRIDES:
        machine.files.texts[POLICY] = f'mechanism = "{OVERRIDES}"\n'
        for queue in ADMINS:
            machine.kernel.write(f"bus/ap/devices/{queue}/driver_override", "vfio_ap")
            machine.kernel.write("bus/ap/drivers/cex4queue/unbind", str(queue))
            machine.kernel.write("bus/ap/drivers_probe", str(queue))
    one = RunningGuest(machine, "g1", guest(1))
    request = Request("g1", guest(1), mdev(1), Matrix(), criteria=CRITERIA)
    assert start_guest(machine, request).matrix.adapters == CARD.adapters
    one.open(mdev(1))
    one.annotation = annotation(CRITERIA).replace("<guest>", '<guest xmlns="urn:apvfio:guest:1">')
    return one


class Befalls(NamedTuple):
    """What happens at one event."""

    n: int
    path: str
    how: str
    late: bool

    def __str__(self) -> str:
        return f"{self.how} {'after' if self.late else 'before'} {self.n} {self.path}"


def all_that_befalls(paths: list[str], stride: int) -> Iterator[Befalls]:
    for n, path in enumerate(paths, 1):
        if n % stride == 0:
            for how, late in (("killed", False), ("killed", True), ("fails", False)):
                yield Befalls(n, path, how, late)


def by_uuid(one: RunningGuest) -> dict[str, Guest]:
    return {one.uuid: cast("Guest", one)} if one.pid else {}


def drain(one: RunningGuest) -> None:
    in_a_process(one, lambda: draining.drain(one.machine, CARD, by_uuid(one)))


def restore(one: RunningGuest) -> None:
    for found in draining.find_drains(one.machine, CARD):
        in_a_process(one, partial(draining.restore, one.machine, found, by_uuid(one)))


def in_a_process(one: RunningGuest, do: Callable[[], object]) -> None:
    """Do it in a process that ends with it."""
    assert one.machine.processes
    process = one.machine.processes.start()
    with (
        mock.patch.object(live_guest, "this_process", return_value=process),
        mock.patch.object(draining, "this_process", return_value=process),
    ):
        try:
            do()
        finally:
            one.machine.processes.end(process.pid)


def require_whole(one: RunningGuest) -> Matrix:
    """All agree on what the guest has; it is returned."""
    machine = one.machine
    assert not disagreements(machine)
    assert not still_pending(machine)
    (lease,) = machine.ledger.leases.values()
    assert (lease.state, lease.live_change, lease.mdev) == (HELD, None, one.plugged)
    assert view(machine).mdevs == {lease.mdev: lease.matrix}
    assert "<any " in one.annotation
    return lease.matrix


def overrides_on_card(one: RunningGuest) -> dict[Apqn, str]:
    return {queue: name for queue, name in view(one.machine).overrides.items() if CARD.holds(queue)}


def require_drained(one: RunningGuest) -> None:
    assert not CARD.meets(require_whole(one))
    assert overrides_on_card(one) == {}
    (found,) = draining.find_drains(one.machine, None)
    assert not found.restoring
    if overrides_were_set(one):
        assert {view(one.machine).drivers[queue] for queue in ADMINS} == {"cex4queue"}


def overrides_were_set(one: RunningGuest) -> bool:
    return bool(one.machine.files.texts.get(POLICY))


def require_restored(one: RunningGuest, before: Matrix) -> None:
    assert require_whole(one) == before
    assert DRAINS not in one.machine.files.texts
    if overrides_were_set(one):
        assert overrides_on_card(one).items() >= ADMINS.items()
        assert all(view(one.machine).drivers[queue] == "vfio_ap" for queue in ADMINS)


def struck(one: RunningGuest, fault: Befalls, do: Callable[[RunningGuest], None]) -> None:
    """Do it, with what befalls it at its n-th event; then another process, to which nothing happens."""

    n, path, how, late = fault

    def kill() -> None:
        one.machine.faults.dead = True
        raise Killed

    def fail() -> None:
        if path.startswith("libvirt/"):
            raise ApvfioError("libvirt refused: timed out.", guest=one.name)
        Fault(1, EIO, False, path).strike()

    one.machine.faults.arm(n, kill if how == "killed" else fail, late=late)
    with suppress(Killed, ApvfioError, OSError):
        do(one)
    one.machine.faults.arm(0, lambda: None)
    one.machine.faults.dead = False
    one.machine = one.machine.process()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_drain_given_again_goes_on(kind: str, stride: int) -> None:
    begun = running(kind)
    before = require_whole(begun)
    start = begun.machine
    counted = begun.on(start.twin())
    counted.machine.faults.arm(0, lambda: None)
    drain(counted)
    require_drained(counted)
    paths = counted.machine.faults.paths
    assert 10 < len(paths) < LIMIT
    for fault in all_that_befalls(paths, stride):
        one = begun.on(start.twin())
        struck(one, fault, drain)
        try:
            drain(one)
            require_drained(one)
            reconcile_host(one.machine)
            require_drained(one)
            restore(one)
            require_restored(one, before)
        except AssertionError as error:
            raise AssertionError(f"{fault}: {error}") from None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_restore_given_again_goes_on(kind: str, stride: int) -> None:
    begun = running(kind)
    before = require_whole(begun)
    drain(begun)
    start = begun.machine
    counted = begun.on(start.twin())
    counted.machine.faults.arm(0, lambda: None)
    restore(counted)
    require_restored(counted, before)
    paths = counted.machine.faults.paths
    assert 10 < len(paths) < LIMIT
    for fault in all_that_befalls(paths, stride):
        one = begun.on(start.twin())
        struck(one, fault, restore)
        try:
            if fault.how == "fails" and DRAINS not in one.machine.files.texts:
                # What could not be moved back stays, and is named; the drain is over.
                require_settled(one)
            else:
                restore(one)
                require_restored(one, before)
        except AssertionError as error:
            raise AssertionError(f"{fault}: {error}") from None


def require_settled(one: RunningGuest) -> None:
    reconcile_host(one.machine)
    for lease in live_guest.unreconciled(one.machine):
        live_guest.reconcile_guest(one.machine, lease, cast("Guest", one))
    reconcile_host(one.machine)
    require_whole(one)

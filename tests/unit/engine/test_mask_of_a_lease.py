# SPDX-License-Identifier: Apache-2.0
"""A guest leans on the mask that keeps its queues, whichever an administrator makes it."""

from __future__ import annotations

import errno

import pytest

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS, Host, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES, HELD, STARTING
from apvfio.plan.steps import with_relied_on_mask
from apvfio.sim.kernel import SimKernel
from hosts import a_host, a_lease, a_ledger, a_request, guest, mdev
from memory_host import IBM_ADAPTERS, Machine

ALL = MaskBits(ALL_IDS, ALL_IDS)


@pytest.mark.parametrize(
    ("way", "clear", "leans_on"),
    [
        (BY_ADAPTERS, MaskBits(IdSet([0, 1]), NO_IDS), BY_ADAPTERS),
        (BY_ADAPTERS, MaskBits(IdSet([0, 1]), IdSet([4])), BY_ADAPTERS),
        (BY_ADAPTERS, MaskBits(IdSet([0]), IdSet([4])), BY_DOMAINS),
        (BY_DOMAINS, MaskBits(IdSet([0, 1]), NO_IDS), BY_ADAPTERS),
        # Neither keeps them: what is amiss is told as drift, and nothing else would be truer.
        (BY_DOMAINS, MaskBits(IdSet([0]), NO_IDS), BY_DOMAINS),
        (BY_OVERRIDES, MaskBits(IdSet([0, 1]), NO_IDS), BY_OVERRIDES),
    ],
)
def test_it_leans_on_a_mask_that_keeps_all(way: str, clear: MaskBits, leans_on: str) -> None:
    lease = a_lease("0-1", "4")._replace(freed_by=way, state=HELD)
    host: Host = a_host()._replace(apmask=(ALL - clear).apmask, aqmask=(ALL - clear).aqmask)
    assert with_relied_on_mask(a_ledger(lease), host).leases == {
        lease.mdev: lease._replace(freed_by=leans_on)
    }


def test_what_starts_keeps_the_way_that_was_chosen() -> None:
    lease = a_lease("0", "4")._replace(freed_by=BY_DOMAINS, state=STARTING)
    host = a_host(apmask=ALL_IDS - IdSet([0]))
    assert with_relied_on_mask(a_ledger(lease), host).leases == {lease.mdev: lease}


def swapped() -> Machine:
    """A host before 7.0 whose administrator has swapped the domain that a guest leans on for its adapter."""
    machine = Machine(SimKernel.new("6.1", adapters=IBM_ADAPTERS, domains=IdSet([1, 2])))
    machine.kernel.write("bus/ap/aqmask", "-2")
    start_guest(machine, a_request("0", "1")._replace(free_by="domains"))
    machine.kernel.write("bus/ap/apmask", "-0")
    machine.kernel.write("bus/ap/aqmask", "+1")
    return machine


def test_a_start_that_fails_leaves_no_pending_return_of_his_bit() -> None:
    machine = swapped()
    before = machine.host

    def refuse() -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    machine.faults.arm(3, refuse)
    with pytest.raises(ApvfioError, match="the kernel refused"):
        start_guest(machine, a_request("10", "1-2", 2)._replace(free_by="domains"))
    assert machine.faults.paths[:3] == ["/run/apvfio/ledger.json", "bus/ap/aqmask", AP_MDEVS.create]
    assert machine.host == before
    assert machine.ledger.pending == MaskBits()
    assert machine.ledger.leases[mdev(1)].freed_by == BY_ADAPTERS


def test_another_start_on_his_bit_returns_it_while_the_first_guest_runs() -> None:
    machine = swapped()
    start_guest(machine, a_request("10", "1-2", 2)._replace(free_by="domains"))
    assert machine.ledger.pending == MaskBits(NO_IDS, IdSet([1]))
    release_guest(machine, guest(2))
    assert machine.host.aqmask == ALL_IDS - IdSet([2])
    assert machine.ledger.pending == MaskBits()
    release_guest(machine, guest(1))
    assert machine.host.apmask == ALL_IDS - IdSet([0])

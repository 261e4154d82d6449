# SPDX-License-Identifier: Apache-2.0
"""Sentences on what in a host differs from what the ledger says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.host import MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.ledger import BY_DOMAINS, BY_OVERRIDES, ENDING, STARTING
from apvfio.model.matrix import Apqn
from apvfio.plan.drift import drift
from hosts import NO_LEASES, a_host, a_lease, a_ledger, a_matrix, mdev

if TYPE_CHECKING:
    from apvfio.model.host import Host
    from apvfio.model.ledger import Ledger

ADAPTER_0_FREED = ALL_IDS - IdSet([0])


def test_a_host_as_it_should_be() -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(1): a_matrix("0", "1-2")})
    ledger = a_ledger(a_lease("0", "1-2"))._replace(pending=MaskBits(IdSet([0]), NO_IDS))
    assert drift(host, ledger) == []
    assert drift(a_host(), NO_LEASES) == []


def test_the_device_is_gone_and_the_mask_set() -> None:
    ledger = a_ledger(a_lease("0", "1-2"))._replace(pending=MaskBits(IdSet([0]), NO_IDS))
    assert drift(a_host(), ledger) == [
        f"guest g1: its mediated device {mdev(1)} is gone",
        "guest g1: 00.0001, 00.0002 are bound to cex4queue instead of vfio_ap",
        "guest g1: apmask 0 (00) must be clear for it and is set",
    ]


def test_the_device_holds_something_else() -> None:
    host = a_host(aqmask=ALL_IDS - IdSet([1, 2]), mdevs={mdev(1): a_matrix("0", "1")})
    host.drivers[Apqn(0, 2)] = ""
    del host.drivers[Apqn(0, 1)]
    assert drift(host, a_ledger(a_lease("0", "1-2", way=BY_DOMAINS))) == [
        f"guest g1: its mediated device {mdev(1)} holds adapters 0, domains 1"
        " instead of adapters 0, domains 1-2",
        "guest g1: 00.0002 is bound to no driver instead of vfio_ap",
        "guest g1: 00.0001 is not on this host",
    ]


def test_a_lease_freed_by_domains_needs_aqmask() -> None:
    host = a_host(aqmask=ALL_IDS - IdSet([1]), mdevs={mdev(1): a_matrix("0", "1-2")})
    assert drift(host, a_ledger(a_lease("0", "1-2", way=BY_DOMAINS))) == [
        "guest g1: 00.0002 is bound to cex4queue instead of vfio_ap",
        "guest g1: aqmask 2 (0002) must be clear for it and is set",
    ]


def test_a_lease_does_not_need_aqmask_where_apmask_keeps_its_queues() -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(1): a_matrix("0", "1-2")})
    assert drift(host, a_ledger(a_lease("0", "1-2", way=BY_DOMAINS))) == []


def test_leases_between_states_are_told_of_and_not_looked_into() -> None:
    ledger = a_ledger(a_lease("0", "1", state=STARTING), a_lease("1", "1", 2, state=ENDING))
    assert drift(a_host(), ledger) == [
        "guest g1: its start is under way, or was interrupted and waits for 'reconcile'",
        "guest g2: its end is under way, or was interrupted and waits for 'reconcile'",
    ]


def test_a_pending_return_that_somebody_else_did() -> None:
    ledger = NO_LEASES._replace(pending=MaskBits(IdSet([0]), IdSet([1])))
    assert drift(a_host(apmask=ADAPTER_0_FREED), ledger) == [
        "aqmask 1 (0001) is recorded as a pending return, but is set already",
        "apmask 0 (00) is a pending return that is due: 'reconcile' sets it",
    ]


def test_a_pending_return_that_a_foreign_device_delays_is_no_drift() -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(9): a_matrix("0", "4")})
    assert drift(host, NO_LEASES._replace(pending=MaskBits(IdSet([0]), NO_IDS))) == []


def test_guests_names_are_cleaned() -> None:
    lease = a_lease("0", "1", state=ENDING)._replace(guest="a\nb")
    assert drift(a_host(), a_ledger(lease))[0].startswith("guest a?b: ")


def an_override_lease(*overridden: str) -> tuple[Host, Ledger]:
    queues = [queue for queue in map(Apqn.parse, overridden) if queue]
    host = a_host(overrides=dict.fromkeys(queues, "vfio_ap"), mdevs={mdev(1): a_matrix("0", "1-2")})
    for queue in queues:
        host.drivers[queue] = "vfio_ap"
    lease = a_lease("0", "1-2", way=BY_OVERRIDES)
    return host, a_ledger(lease)._replace(overrides=dict.fromkeys(lease.matrix.queues(), ""))


def test_an_override_lease_as_it_should_be() -> None:
    assert drift(*an_override_lease("00.0001", "00.0002")) == []


def test_an_override_that_somebody_cleared() -> None:
    assert drift(*an_override_lease("00.0001")) == [
        "guest g1: 00.0002 is bound to cex4queue instead of vfio_ap",
        "guest g1: driver_override of 00.0002 must be vfio_ap for it and is not",
    ]


def test_pending_overrides() -> None:
    host, ledger = an_override_lease("00.0001")
    free = host._replace(mdevs={})
    assert drift(free, ledger._replace(leases={})) == [
        "driver_override of 00.0002 is recorded as a pending return, but is restored already",
        "driver_override of 00.0001 is a pending return that is due: 'reconcile' restores it",
    ]
    # While somebody's device holds the queue it cannot go back, and that is as it should be.
    assert drift(host, ledger._replace(leases={})) == [
        "driver_override of 00.0002 is recorded as a pending return, but is restored already",
    ]

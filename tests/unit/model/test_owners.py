# SPDX-License-Identifier: Apache-2.0
"""Who owns each queue."""

from __future__ import annotations

import pytest

from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.ledger import ENDING, STARTING
from apvfio.model.matrix import Apqn
from apvfio.model.owners import owners
from hosts import NO_LEASES, a_host, a_lease, a_ledger, a_matrix, mdev

ADAPTER_0_FREED = ALL_IDS - IdSet([0])


def test_what_is_bound_to_the_hosts_driver_is_the_hosts() -> None:
    assert {str(owner) for owner in owners(a_host(), NO_LEASES).values()} == {"host"}


def test_what_vfio_ap_has_and_no_device_holds_is_free() -> None:
    found = owners(a_host(apmask=ADAPTER_0_FREED), NO_LEASES)
    assert [str(q) for q, owner in found.items() if str(owner) == "free"] == [
        "00.0001",
        "00.0002",
        "00.0004",
        "00.001b",
    ]


@pytest.mark.parametrize("state", [STARTING, ENDING])
def test_a_device_of_a_lease_is_the_guests_in_every_state(state: str) -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(1): a_matrix("0", "1")})
    owner = owners(host, a_ledger(a_lease("0", "1", state=state)))[Apqn(0, 1)]
    assert (str(owner), owner.mdev) == ("guest g1", mdev(1))


def test_what_the_device_holds_counts_and_not_what_was_leased() -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(1): a_matrix("0", "2")})
    found = owners(host, a_ledger(a_lease("0", "1")))
    assert str(found[Apqn(0, 1)]) == "free"
    assert str(found[Apqn(0, 2)]) == "guest g1"


def test_a_foreign_device_is_named_by_its_uuid() -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(7): a_matrix("0", "1")})
    assert str(owners(host, a_ledger(a_lease("0", "2")))[Apqn(0, 1)]) == f"mdev {mdev(7)}"


def test_the_driver_decides_not_the_device() -> None:
    # Unbound by hand, or taken by the host after its override was cleared: the matrix still lists it.
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(1): a_matrix("0", "1-2")})
    host.drivers[Apqn(0, 1)] = ""
    host.drivers[Apqn(0, 2)] = "cex4queue"
    found = owners(host, a_ledger(a_lease("0", "1-2")))
    assert [str(found[Apqn(0, domain)]) for domain in (1, 2)] == ["unbound", "host"]


def test_a_device_may_hold_queues_that_are_not_there() -> None:
    host = a_host(apmask=ADAPTER_0_FREED, mdevs={mdev(1): a_matrix("0,5", "1,9")})
    found = owners(host, NO_LEASES)
    assert list(found) == sorted(host.drivers)

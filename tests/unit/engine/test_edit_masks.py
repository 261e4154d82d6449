# SPDX-License-Identifier: Apache-2.0
"""A change of the masks, when the kernel or the disk says no in the middle."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.start import start_guest
from apvfio.model.errors import ApvfioError, KernelRefusedError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from hosts import a_matrix, a_request, mdev
from mask_changes import change
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_ADAPTER_0 = a_request("0", "1,2,4")


def make_mdev(machine: Machine, matrix: Matrix) -> None:
    machine.kernel.write(AP_MDEVS.create, mdev(8))
    for kind, ids in zip(("adapter", "domain"), matrix):
        for i in ids:
            machine.kernel.write(f"{AP_MDEVS.device(mdev(8))}/assign_{kind}", str(i))


def test_if_the_second_mask_is_refused_the_first_goes_back() -> None:
    machine = Machine()
    start_guest(machine, BY_ADAPTER_0)
    machine.kernel.write("bus/ap/aqmask", "-27")
    before = machine.ledger
    # Somebody makes a device between our look and our second write.
    machine.faults.arm(2, lambda: make_mdev(machine, a_matrix("1", "27")))
    with pytest.raises(KernelRefusedError, match="a mediated device still holds one of these ids"):
        change(machine, "-0,-10,-20-22", "+27")
    assert machine.host.apmask == ALL_IDS - IdSet([0])
    assert machine.host.aqmask == ALL_IDS - IdSet([27])
    assert machine.host.drivers[Apqn(10, 2)] == "cex4queue"
    assert machine.ledger == before


def test_what_cannot_be_undone_is_told() -> None:
    machine = Machine()

    machine.kernel.write("bus/ap/aqmask", "-1")
    machine.faults.arm(2, lambda: make_mdev(machine, a_matrix("1", "1")))
    with pytest.raises(KernelRefusedError, match=r"Not all is as it was before: the kernel refused '\+1'"):
        change(machine, "-1", "+1")


def test_a_set_bit_is_undone_too() -> None:
    machine = Machine()
    machine.kernel.write("bus/ap/apmask", "-3")
    machine.kernel.write("bus/ap/aqmask", "-1")

    machine.faults.arm(2, lambda: make_mdev(machine, a_matrix("1", "1")))
    with pytest.raises(KernelRefusedError):
        change(machine, "+3", "+1")
    assert machine.host.apmask == ALL_IDS - IdSet([3])


def test_a_mask_that_another_program_changes_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    real = machine.kernel.write

    def stubborn(path: str, text: str) -> None:
        if path != "bus/ap/apmask":
            real(path, text)

    monkeypatch.setattr(machine.kernel, "write", stubborn)
    with pytest.raises(ApvfioError, match=r"/sys/bus/ap/apmask reads 0-255 after '-1' was written"):
        change(machine, "-1", None)


def test_a_store_that_fails_says_what_is_changed_already() -> None:
    machine = Machine()

    def full() -> None:
        raise ApvfioError("the disk is full.", remedy="Make room.")

    machine.faults.arm(3, full)
    with pytest.raises(
        ApvfioError, match=r"Make room\. The active masks are changed; only storing them failed"
    ):
        change(machine, "-5", None, persistent=True)
    assert machine.host.apmask == ALL_IDS - IdSet([5])
    machine.faults.arm(1, full)
    with pytest.raises(ApvfioError, match=r"Make room\.$"):
        change(machine, "-6", None, persistent=True, active=False)


def test_all_is_done_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    held: list[int] = []

    @contextmanager
    def lock() -> Iterator[None]:
        yield
        held.append(machine.faults.count)

    monkeypatch.setattr(machine, "lock", lock)
    change(machine, "-5", "-6", persistent=True)
    assert held == [4]  # both masks, the ledger, the file of stored masks

# SPDX-License-Identifier: Apache-2.0
"""A queue that goes while masks are changed: it keeps neither the change nor its undoing from the others."""

from __future__ import annotations

import pytest

from apvfio.engine.edit_masks import change_masks
from apvfio.model.errors import KernelRefusedError
from apvfio.model.ids import ALL_IDS, IdSet
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.matrix import Apqn
from apvfio.plan.mask_edit import MaskEdit
from memory_host import Machine

OTHERS = MaskEdit(parse_mask_spec("-1"), parse_mask_spec("-1"), active=True, persistent=False)


@pytest.fixture
def machine() -> Machine:
    """One without vfio_ap: what leaves the host has no driver."""
    machine = Machine()
    machine.kernel.unload("vfio_ap")
    return machine


def test_the_change_goes_on(machine: Machine) -> None:
    machine.faults.arm(2, lambda: machine.kernel.unplug_adapter(10), late=True)
    change_masks(machine, OTHERS, lambda _: None)
    assert (machine.host.apmask, machine.host.aqmask) == (ALL_IDS - IdSet([1]),) * 2
    assert machine.host.drivers[Apqn(1, 2)] == ""


def test_its_undoing_goes_on(machine: Machine) -> None:
    """Else the queues that come after the lost one would stay without a driver."""
    before = machine.host

    def refuse() -> None:
        machine.kernel.unplug_adapter(0)
        raise OSError(22, "Invalid argument")

    machine.faults.arm(2, refuse)
    with pytest.raises(KernelRefusedError) as caught:
        change_masks(machine, OTHERS, lambda _: None)
    assert "Not all is as it was" not in str(caught.value)
    left = {queue: driver for queue, driver in before.drivers.items() if queue.adapter != 0}
    assert machine.host == before._replace(drivers=left, overrides=machine.host.overrides)

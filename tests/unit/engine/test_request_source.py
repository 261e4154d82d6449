# SPDX-License-Identifier: Apache-2.0
"""A refusal names the place where the queues were requested: that is what its reader has to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.domain.request import request_of
from apvfio.engine.claim import make_claim
from apvfio.engine.start import start_guest
from apvfio.mdevctl.persistent_device import definition_of
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS
from apvfio.model.matrix import Matrix
from apvfio.model.process import Process
from apvfio.sim.kernel import SimKernel
from apvfio.store.policy_file import POLICY
from hosts import a_matrix, mdev
from lab.guest import guest_xml
from memory_host import IBM_ADAPTERS, Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.model.request import Request

MISSING = a_matrix("64", "1")
DEFINED = "mdevctl's definition of its device"


def annotated(machine: Machine) -> None:
    start_guest(machine, _request(machine, MISSING))


def defined(machine: Machine) -> None:
    machine.files.texts[AP_MDEVS.definition(mdev(1))] = definition_of(MISSING).text()
    start_guest(machine, _request(machine, None))


def mdevctl(machine: Machine) -> None:
    make_claim(machine, mdev(1), MISSING, Process(1, 1))


@pytest.mark.parametrize("policy", ["", "over-provisioning = true\n"], ids=["not here", "impossible"])
@pytest.mark.parametrize(
    ("ask", "place"), [(annotated, "its annotation"), (defined, DEFINED), (mdevctl, "its definition")]
)
def test_what_is_to_be_corrected(ask: Callable[[Machine], None], place: str, policy: str) -> None:
    machine = Machine(SimKernel.new(adapters=IBM_ADAPTERS, max_adapter=63))
    machine.files.texts[POLICY] = policy
    with pytest.raises(ApvfioError) as caught:
        ask(machine)
    assert caught.value.remedy.startswith(f"Correct the adapters of {place}")


def _request(machine: Machine, matrix: Matrix | None) -> Request:
    request = request_of(machine.files, guest_xml("g", matrix, mdev(1)).encode())
    assert request
    return request

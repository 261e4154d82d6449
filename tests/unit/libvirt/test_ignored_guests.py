# SPDX-License-Identifier: Apache-2.0
"""A guest with a vfio-ap device that requests no queues: the hook does nothing, and the audit log says so."""

from __future__ import annotations

import pytest

from apvfio.engine.start import start_guest
from apvfio.events import audit_log
from apvfio.events.journal import sentence
from apvfio.libvirt import hook
from apvfio.sim.host_file import SimSystem
from apvfio.sim.kernel import SimKernel
from apvfio.store.definitions import FOLDER
from hosts import a_matrix, a_request, mdev
from lab.guest import guest_xml


@pytest.fixture
def system() -> SimSystem:
    return SimSystem.new(SimKernel.new())


def log(system: SimSystem) -> list[str]:
    return [sentence(event) for event in audit_log.read(system.files) if event and event.kind == "ignored"]


def prepare(system: SimSystem, xml: str) -> int:
    return hook.main(["db1", "prepare", "begin", "-"], system, xml.encode())


def test_the_device_is_not_there_and_nothing_is_requested(system: SimSystem) -> None:
    assert prepare(system, guest_xml("db1", None, mdev(1))) == 0
    assert log(system) == [
        f"guest db1 gets no queues: its mediated device {mdev(1)} does not exist, and it has neither "
        "an annotation nor mdevctl's definition of that device"
    ]


def test_a_device_that_is_there_is_somebody_elses_affair(system: SimSystem) -> None:
    start_guest(system, a_request("0", "1"))
    assert prepare(system, guest_xml("db1", None, mdev(1))) == 0
    assert log(system) == []


def test_a_guest_without_a_device_and_one_that_requests_queues(system: SimSystem) -> None:
    assert prepare(system, guest_xml("db1")) == 0
    assert prepare(system, guest_xml("db1", a_matrix("0", "1"), mdev(1))) == 0
    assert log(system) == []


def test_a_definition_is_a_request(system: SimSystem) -> None:
    definition = '{"mdev_type": "vfio_ap-passthrough", "start": "manual", "attrs": [{"assign_adapter": "0"}, '
    system.files.write(f"{FOLDER}/{mdev(1)}", definition + '{"assign_domain": "1"}]}')
    assert prepare(system, guest_xml("db1", None, mdev(1))) == 0
    assert log(system) == []
    assert list(system.kernel.state.mdevs) == [mdev(1)]

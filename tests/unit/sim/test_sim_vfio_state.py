# SPDX-License-Identifier: Apache-2.0
"""A mediated device's state taken from one simulated host to another, as the draft of the kernel does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.device_migration import migrates_devices
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import DRAFT_MIGRATION, PROFILES
from sim_kernels import BUS, guest_matrix, make, matrix, refused, uuid

if TYPE_CHECKING:
    from collections.abc import Callable

    from apvfio.sim.vfio_state import DeviceState

ONE = uuid(1)
DEVICE = AP_MDEVS.device(ONE)
QUEUES = ["0a.0001", "0a.0002"]


def host(profile: str = DRAFT_MIGRATION) -> SimKernel:
    """IBM's host, of which adapter 10 is given away."""
    kernel = SimKernel.new(profile)
    kernel.write(f"{BUS}/apmask", "-10")
    return kernel


@pytest.fixture
def source() -> SimKernel:
    """A host whose guest has two queues of adapter 10 and controls domain 4."""
    kernel = host()
    make(kernel, 1, "10", "1 2")
    kernel.write(f"{DEVICE}/assign_control_domain", "4")
    kernel.attach_guest(ONE, "vm")
    return kernel


@pytest.fixture
def destination() -> SimKernel:
    """A host whose incoming guest has a device without any queue."""
    kernel = host()
    make(kernel, 1)
    kernel.attach_guest(ONE, "vm")
    return kernel


@pytest.mark.parametrize("version", PROFILES)
def test_the_features_alone_tell(version: str) -> None:
    assert migrates_devices(SimKernel.new(version)) == (version == DRAFT_MIGRATION)


def test_the_device_is_what_it_was(source: SimKernel, destination: SimKernel) -> None:
    state = source.save_device(ONE)
    assert state.control_domains == IdSet([4])
    assert [str(queue) for queue in state.queues] == QUEUES
    destination.load_device(ONE, state)
    assert matrix(destination, DEVICE) == guest_matrix(destination, DEVICE) == QUEUES
    assert destination.read(f"{DEVICE}/control_domains") == "0004\n"
    assert destination.read(f"{BUS}/devices/0a.0001/status") == "in use\n"


def test_what_was_assigned_is_overlaid(source: SimKernel, destination: SimKernel) -> None:
    destination.write(f"{DEVICE}/ap_config", Matrix(IdSet([10]), IdSet([4])).as_ap_config())
    destination.load_device(ONE, source.save_device(ONE))
    assert matrix(destination, DEVICE) == QUEUES


def test_what_the_guest_lacks_does_not_travel(source: SimKernel) -> None:
    source.write(f"{DEVICE}/assign_domain", "9")  # a queue that is not there takes its adapter along
    source.unplug_adapter(10)
    assert source.save_device(ONE).queues == {}


@pytest.mark.parametrize("version", [name for name in PROFILES if name != DRAFT_MIGRATION])
def test_no_other_kernel_does_it(version: str, source: SimKernel) -> None:
    old = host(version)
    make(old, 1, "10", "1")
    old.attach_guest(ONE, "vm")
    assert refused(lambda: old.save_device(ONE)) == "ENOTTY"
    assert refused(lambda: old.load_device(ONE, source.save_device(ONE))) == "ENOTTY"


def test_nobody_has_the_device_open(source: SimKernel, destination: SimKernel) -> None:
    state = source.save_device(ONE)
    destination.detach_guest(ONE)
    assert refused(lambda: destination.load_device(ONE, state)) == "ENODEV"
    source.detach_guest(ONE)
    assert refused(lambda: source.save_device(ONE)) == "ENODEV"


def keep_for_the_host(kernel: SimKernel) -> None:
    kernel.write(f"{BUS}/apmask", "+10")


def assign_to_another(kernel: SimKernel) -> None:
    make(kernel, 2, "10", "2")


def other_mode(kernel: SimKernel) -> None:
    kernel.state.cards[10].mode = "cca"


def older(kernel: SimKernel) -> None:
    kernel.state.cards[10].hwtype -= 1


def no_control(kernel: SimKernel) -> None:
    kernel.set_domains(kernel.state.hardware.domains, IdSet([1, 2]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (keep_for_the_host, "ENODEV"),
        (lambda kernel: kernel.unplug_adapter(10), "ENODEV"),
        (no_control, "ENODEV"),
        (other_mode, "EINVAL"),
        (older, "EINVAL"),
        (assign_to_another, "EADDRINUSE"),
    ],
)
def test_what_the_destination_refuses(
    source: SimKernel, destination: SimKernel, change: Callable[[SimKernel], None], error: str
) -> None:
    change(destination)
    before = destination.to_json()
    assert refused(lambda: destination.load_device(ONE, source.save_device(ONE))) == error
    assert destination.to_json() == before


def test_a_newer_card_will_do(source: SimKernel, destination: SimKernel) -> None:
    older(source)
    destination.load_device(ONE, source.save_device(ONE))
    assert matrix(destination, DEVICE) == QUEUES


@pytest.mark.parametrize("bit", [0x02000000, 0x01000000, 0x00008000])
def test_facilities_of_a_queue(source: SimKernel, destination: SimKernel, bit: int) -> None:
    """APXA and SLCF must be the same, and no Secure Execution guest may have bound it."""
    state: DeviceState = source.save_device(ONE)
    queue = Apqn(10, 1)
    one = state.queues[queue]
    changed = state._replace(queues={**state.queues, queue: one._replace(functions=one.functions ^ bit)})
    assert refused(lambda: destination.load_device(ONE, changed)) == "EINVAL"

# SPDX-License-Identifier: Apache-2.0
"""The driver vfio_ap unloaded, on the real kernel: not from under a guest, and no loss otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.stop import release_guest
from hosts import a_matrix, mdev
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_env import MachineEnv

MATRIX = a_matrix("0,10", "1-2")


@pytest.fixture
def loaded() -> Iterator[None]:
    """The driver is there afterwards, however the test ends."""
    yield
    modprobe()


def modprobe() -> None:
    subprocess.run(["/sbin/modprobe", "vfio_ap"], check=True)


def rmmod() -> subprocess.CompletedProcess[str]:
    """Not ``modprobe -r``: it would unload kvm, too."""
    return subprocess.run(["/sbin/rmmod", "vfio_ap"], capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("loaded")
def test_not_from_under_a_guest(env: MachineEnv) -> None:
    before = state(env)
    env.define("db1", MATRIX, mdev(1))
    env.virsh("start", "--paused", "db1")
    running = state(env)
    refused = rmmod()
    assert (refused.returncode, "Module vfio_ap is in use" in refused.stderr) == (1, True)
    assert state(env) == running
    env.virsh("destroy", "db1")
    assert state(env) == before


@pytest.mark.usefixtures("loaded")
def test_a_guest_that_comes_meanwhile_is_told(env: MachineEnv) -> None:
    before = state(env)
    assert rmmod().returncode == 0
    without = state(env)
    env.define("db1", MATRIX, mdev(1))
    refused = env.virsh("start", "--paused", "db1", check=False)
    assert (refused.returncode, "modprobe vfio_ap" in refused.stderr) == (1, True)
    assert state(env) == without
    modprobe()
    env.virsh("start", "--paused", "db1")
    env.virsh("destroy", "db1")
    assert state(env) == before


@pytest.mark.usefixtures("loaded")
def test_the_device_of_a_dead_guest_goes_with_it(env: MachineEnv) -> None:
    """Unloading destroys the devices that nobody has open; the queues it leaves without a driver go home."""
    before = state(env)
    env.define("db1", MATRIX, mdev(1))
    env.virsh("start", "--paused", "db1")
    uuid = env.virsh("domuuid", "db1").stdout.strip()
    with open("/run/libvirt/qemu/db1.pid", encoding="ascii") as file:
        qemu = int(file.read())
    env.stop_daemon()
    try:
        os.kill(qemu, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while rmmod().returncode and time.monotonic() < deadline:
            time.sleep(0.05)  # a dying process closes its files one by one
        release_guest(env.system, uuid)
        modprobe()
        assert state(env) == before
    finally:
        env.start_daemon()

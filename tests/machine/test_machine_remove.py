# SPDX-License-Identifier: Apache-2.0
"""Removing a device that is open, on the real kernel: bounded, told, and finished when it can be."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.apply import write
from apvfio.model.errors import ConflictError, KernelRefusedError
from apvfio.model.host import AP_MDEVS
from apvfio.store.processes import find_process
from hosts import a_matrix, a_request, guest, mdev
from lifecycle_cases import state
from this_kernel import running, where_qemu_is_asked

if TYPE_CHECKING:
    from machine_env import MachineEnv


def qemu_of(name: str) -> int:
    with open(f"/run/libvirt/qemu/{name}.pid", encoding="ascii") as file:
        return int(file.read())


def guest_uuid(env: MachineEnv, name: str) -> str:
    return env.virsh("domuuid", name).stdout.strip()


def test_a_guest_that_does_not_let_go(env: MachineEnv) -> None:
    before = state(env)
    env.define("deaf", a_matrix("0,10", "1-2"), mdev(1))
    env.virsh("start", "--paused", "deaf")
    qemu, uuid = qemu_of("deaf"), guest_uuid(env, "deaf")
    os.kill(qemu, signal.SIGSTOP)
    try:
        with pytest.raises(ConflictError, match=f"process {qemu} .*has it open"):
            release_guest(env.system, uuid, force=True)
        # The kernel takes nothing back: nobody can have the queues, and nobody is told otherwise.
        outcome = reconcile_host(env.system)
        assert outcome.ledger.pending
        env.define("next", a_matrix("0,10", "1-2"), mdev(2))
        refused = env.virsh("start", "--paused", "next", check=False)
        assert refused.returncode
        assert "apvfio: guest next: " in refused.stderr
    finally:
        os.kill(qemu, signal.SIGCONT)
    if not running().asks_to_let_go:
        env.virsh("destroy", "deaf")
    deadline = time.monotonic() + 30
    while state(env) != before and time.monotonic() < deadline:
        time.sleep(0.2)
        reconcile_host(env.system)
    assert state(env) == before
    env.virsh("start", "--paused", "next")
    env.virsh("destroy", "next")
    env.virsh("destroy", "deaf", check=False)
    assert state(env) == before


def test_who_has_a_device_open_is_known(env: MachineEnv) -> None:
    before = state(env)
    env.define("shy", a_matrix("0", "1"), mdev(4))
    env.virsh("start", "--paused", "shy")
    uuid, process = guest_uuid(env, "shy"), find_process(qemu_of("shy"))
    assert process
    assert env.system.opener(mdev(4)) == process
    assert env.system.running_guests() == {uuid: process}
    with pytest.raises(ConflictError, match=rf"guest shy: .*process {process.pid}"):
        release_guest(env.system, uuid)
    env.virsh("destroy", "shy")
    assert env.system.running_guests() == {}
    assert state(env) == before
    # Nobody's guest, but a program's.
    start_guest(env.system, a_request("0", "1", 5))
    assert env.system.opener(mdev(5)) is None
    group = os.path.basename(os.readlink(f"/sys/{AP_MDEVS.device(mdev(5))}/iommu_group"))
    fd = os.open(f"/dev/vfio/{group}", os.O_RDWR)
    try:
        assert env.system.opener(mdev(5)) == find_process(os.getpid())
        with pytest.raises(ConflictError, match=rf"device is open \(process {os.getpid()}\)"):
            release_guest(env.system, guest(5))
    finally:
        os.close(fd)
    release_guest(env.system, guest(5))
    assert state(env) == before


@where_qemu_is_asked
def test_a_guest_that_lets_go(env: MachineEnv) -> None:
    before = state(env)
    env.define("deft", a_matrix("0", "1"), mdev(3))
    env.virsh("start", "--paused", "deft")
    uuid = guest_uuid(env, "deft")
    with pytest.raises(ConflictError, match="in use"):
        release_guest(env.system, uuid)
    release_guest(env.system, uuid, force=True)
    assert state(env) == before
    env.virsh("destroy", "deft")
    assert state(env) == before


def test_the_same_device_waits_for_its_last_user(env: MachineEnv) -> None:
    before = state(env)
    env.define("deaf", a_matrix("10", "4"), mdev(4))
    env.virsh("start", "--paused", "deaf")
    qemu, uuid = qemu_of("deaf"), guest_uuid(env, "deaf")
    os.kill(qemu, signal.SIGSTOP)
    try:
        with pytest.raises(ConflictError):
            release_guest(env.system, uuid, force=True)
        with pytest.raises(KernelRefusedError, match="still has a user"):
            write(env.system.sysfs, AP_MDEVS.create, mdev(4))
    finally:
        os.kill(qemu, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while state(env) != before and time.monotonic() < deadline:
        time.sleep(0.2)
        reconcile_host(env.system)
    assert state(env) == before

# SPDX-License-Identifier: Apache-2.0
"""mdevctl and virsh with our callout and notifier, on the real drivers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.mdev.callouts import SCRIPTS
from hosts import a_matrix, mdev
from lifecycle_cases import state
from mdevctl_cases import ROW, GuestEnv, MdevctlCases, ledger, mdevs, shipped
from this_kernel import where_qemu_is_asked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_env import MachineEnv

INSTALLED = {
    "mdevctl-notifier": Path(f"/{SCRIPTS[1]}/notifiers/50-apvfio"),
    "mdevctl-callout": Path(f"/{SCRIPTS[0]}/callouts/00-apvfio"),
}
NODEDEV = f"""\
<device>
  <parent>ap_matrix</parent>
  <capability type='mdev'>
    <type id='vfio_ap-passthrough'/>
    <uuid>{mdev(1)}</uuid>
    <attr name='assign_adapter' value='0x0'/>
    <attr name='assign_domain' value='1'/>
    <attr name='assign_domain' value='2'/>
  </capability>
</device>
"""
NODE = f"mdev_{mdev(1).replace('-', '_')}_matrix"


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    # libvirt hands mdevctl its definitions by that name.
    if not os.path.lexists("/dev/stdin"):
        os.symlink("/proc/self/fd/0", "/dev/stdin")
    for name, place in INSTALLED.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(shipped(name, "/usr/bin/python3"))
        place.chmod(0o755)
    yield
    for place in INSTALLED.values():
        place.unlink()


class TestMdevctl(MdevctlCases):
    """The common cases, with an mdevctl that asks its callouts what they can."""

    @where_qemu_is_asked
    def test_a_device_stopped_under_its_guest(self, env: GuestEnv) -> None:
        super().test_a_device_stopped_under_its_guest(env)


def test_virsh_starts_a_device(env: MachineEnv) -> None:
    before = state(env)
    env.virsh("nodedev-define", "/proc/self/fd/0", stdin=NODEDEV)
    env.virsh("nodedev-start", NODE)
    assert mdevs(env) == {mdev(1): ROW}
    env.define("guest", None, mdev(1))
    env.virsh("start", "--paused", "guest")
    assert [lease.created for lease in ledger(env).leases.values()] == [False]
    env.virsh("destroy", "guest")
    env.virsh("nodedev-destroy", NODE)
    assert state(env) == before
    env.virsh("nodedev-undefine", NODE)


def test_virshs_user_reads_why_a_device_cannot_start(env: MachineEnv) -> None:
    env.define("held", a_matrix("0", "1"), mdev(2))
    env.virsh("start", "--paused", "held")
    running = state(env)
    done = env.virsh("nodedev-create", "/proc/self/fd/0", stdin=NODEDEV, check=False)
    assert done.returncode
    assert f"APQN 0.1 already in use by {mdev(2)} (guest held)" in done.stderr
    assert state(env) == running

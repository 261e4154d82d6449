# SPDX-License-Identifier: Apache-2.0
"""driver_override on the real kernel: a KVM guest gets its queues and the host loses no other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.kernel.snapshot import read_host
from apvfio.model.ids import ALL_IDS
from apvfio.store.policy_file import POLICY
from hosts import a_matrix, mdev
from lifecycle_cases import state, with_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_env import MachineEnv


@pytest.fixture
def overrides(env: MachineEnv) -> Iterator[MachineEnv]:
    if not read_host(env.system.sysfs).abilities.override:
        pytest.skip("this kernel has no driver_override for AP queues")
    policy = Path("/") / POLICY
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text('mechanism = "overrides"\n')
    yield env
    policy.unlink()


def test_only_what_was_asked_for_leaves_the_host(overrides: MachineEnv) -> None:
    env = overrides
    offline = Path("/sys/bus/ap/devices/0a.0001/online")
    offline.write_text("0")
    before = state(env)
    env.define("one", a_matrix("0,10", "1-2"), mdev(1))
    env.define("two", a_matrix("0", "4"), mdev(2))
    env.virsh("start", "--paused", "one")
    env.virsh("start", "--paused", "two")
    running = state(env).host
    wanted = {"00.0001", "00.0002", "0a.0001", "0a.0002", "00.0004"}
    assert with_driver(running, "vfio_ap") == wanted
    assert {str(queue) for queue in running.overrides} == wanted
    assert running.apmask == ALL_IDS == running.aqmask
    assert main(["mechanism"]) == 0
    assert main(["masks", "-a", "apmask=-3"]) != 0
    env.virsh("destroy", "one")
    assert with_driver(state(env).host, "vfio_ap") == {"00.0004"}
    env.virsh("destroy", "two")
    assert state(env) == before
    assert offline.read_text() == "0\n"
    offline.write_text("1")

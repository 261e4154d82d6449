# SPDX-License-Identifier: Apache-2.0
"""libvirt's node devices: our definitions and the devices of guests among them; its definitions, read by us.

The lab has no events of devices that come and go, so the daemon looks anew when it starts.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.snapshot import read_host
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.store.definitions import load_definition, matrix_of
from hosts import a_matrix, mdev
from lab.hook import hook_script
from lab_env import LabEnv
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab_env import MakeLab

ROW = a_matrix("0", "1-2")._replace(control_domains=a_matrix("0", "4").domains)
NAME = f"mdev_{mdev(1).replace('-', '_')}_matrix"
XML = f"""\
<device>
  <parent>ap_matrix</parent>
  <capability type='mdev'>
    <type id='vfio_ap-passthrough'/>
    <uuid>{mdev(1)}</uuid>
    <attr name='assign_adapter' value='10'/>
    <attr name='assign_domain' value='0x1b'/>
  </capability>
</device>
"""
PATIENCE = 30.0


@pytest.fixture(scope="module")
def lab_env(make_lab: MakeLab) -> Iterator[LabEnv]:
    with make_lab(hook_script()) as lab:
        yield LabEnv(lab)


@pytest.fixture
def env(lab_env: LabEnv) -> Iterator[LabEnv]:
    yield lab_env
    lab_env.clean()


def shown(env: LabEnv, *words: str) -> list[str]:
    return env.virsh("nodedev-list", "--cap", "mdev", *words).stdout.split()


def until_shown(env: LabEnv, expected: list[str], *words: str) -> None:
    """The daemon looks at mdevctl's directory 100 ms after it changed."""
    deadline = time.monotonic() + PATIENCE
    while shown(env, *words) != expected:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def node_device(env: LabEnv) -> ET.Element:
    return ET.fromstring(env.virsh("nodedev-dumpxml", NAME).stdout)


def held(env: LabEnv) -> Matrix:
    """What the node device's definition holds."""
    attrs = [(attr.get("name"), attr.get("value", "")) for attr in node_device(env).iter("attr")]
    kinds = ("assign_adapter", "assign_domain", "assign_control_domain")
    return Matrix(*(IdSet(int(value, 0) for name, value in attrs if name == kind) for kind in kinds))


def test_a_definition_of_ours_is_a_node_device(env: LabEnv) -> None:
    before = state(env)
    env.define("kept", ROW, mdev(1))
    assert env.apvfio("define", "kept").returncode == 0
    until_shown(env, [NAME], "--inactive")
    assert held(env) == ROW
    env.virsh("start", "--paused", "kept")
    env.stop_daemon()
    env.start_daemon()
    assert shown(env) == [NAME]
    assert shown(env, "--inactive") == []
    assert node_device(env).findtext("path") == f"/sys/{AP_MDEVS.device(mdev(1))}"
    assert node_device(env).findtext("parent") == "ap_matrix"
    env.virsh("destroy", "kept")
    env.stop_daemon()
    env.start_daemon()
    until_shown(env, [NAME], "--inactive")
    assert shown(env) == []
    assert env.apvfio("undefine", "kept").returncode == 0
    until_shown(env, [], "--all")
    assert state(env) == before


def test_a_node_device_that_is_replaced(env: LabEnv) -> None:
    env.virsh("nodedev-define", "/dev/stdin", stdin=XML)
    env.virsh("nodedev-autostart", NAME)
    there = load_definition(env.system.files, mdev(1))
    assert there
    assert matrix_of(there) == a_matrix("10", "27")
    env.define("kept", ROW, mdev(1))
    assert "it requests adapters 0, domains 1-2" in env.apvfio("define", "kept").stderr
    assert env.apvfio("define", "--replace", "kept").returncode == 0
    deadline = time.monotonic() + PATIENCE
    while held(env) != ROW:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    there = load_definition(env.system.files, mdev(1))
    assert there
    assert there.start == "auto"
    env.virsh("nodedev-undefine", NAME)
    assert load_definition(env.system.files, mdev(1)) is None
    assert read_host(env.system.sysfs).mdevs == {}

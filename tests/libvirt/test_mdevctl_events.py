# SPDX-License-Identifier: Apache-2.0
"""The machine's own mdevctl with our callout and notifier, on a simulated host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from apvfio.mdev.callouts import SCRIPTS
from apvfio.model.host import VFIO_DRIVER
from hosts import mdev
from lab.hook import hook_script
from lab_env import LabEnv
from lifecycle_cases import state, with_driver
from mdevctl_cases import MoreMdevctlCases, device, ledger, mdevctl, shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lab import Lab
    from lab_env import MakeLab

NOTIFIER = f"/{SCRIPTS[1]}/notifiers/50-apvfio"
CALLOUT = f"/{SCRIPTS[1]}/callouts/00-apvfio"


def install(lab: Lab, name: str, place: str) -> None:
    file = os.open(lab.path(place), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o755)
    os.write(file, shipped(name, LabEnv.python).encode())
    os.close(file)


@pytest.fixture(scope="module")
def scripted_lab(make_lab: MakeLab) -> Iterator[Lab]:
    with make_lab(hook_script()) as lab:
        install(lab, "mdevctl-notifier", NOTIFIER)
        install(lab, "mdevctl-callout", CALLOUT)
        yield lab


@pytest.fixture
def env(scripted_lab: Lab) -> Iterator[LabEnv]:
    env = LabEnv(scripted_lab)
    yield env
    env.clean()


class TestMdevctl(MoreMdevctlCases):
    """The common cases."""


def test_on_a_host_of_overrides_nothing_is_taken_unasked(env: LabEnv) -> None:
    before = state(env)
    assert env.apvfio("mechanism", "overrides").returncode == 0
    try:
        assert mdevctl(env, "start", 1, device(["0"], ["1", "2"])) == ""
        assert with_driver(state(env).host, VFIO_DRIVER) == {"00.0001", "00.0002"}
        assert env.apvfio("reconcile").stdout.startswith("nothing to do")
        mdevctl(env, "stop", 1)
        assert state(env) == before
    finally:
        assert env.apvfio("mechanism", "masks").returncode == 0


def test_without_the_callout_the_notifier_returns_what_a_foreign_device_kept(env: LabEnv) -> None:
    before = state(env)
    os.remove(env.path(CALLOUT))
    try:
        refused = mdevctl(env, "start", 1, device(["0"], ["4"]), code=1)
        assert "apvfio" not in refused
        env.define("mine", None, mdev(2))
        env.apvfio("guest", "set", "mine", "--adapters", "0", "--domains", "1-2")
        env.virsh("start", "--paused", "mine")
        mdevctl(env, "start", 1, device(["0"], ["4"]))
        env.virsh("destroy", "mine")
        assert ledger(env).pending
        mdevctl(env, "stop", 1)
        assert state(env) == before
    finally:
        install(env.lab, "mdevctl-callout", CALLOUT)


def test_without_the_notifier_the_next_reconcile_returns_the_queues(env: LabEnv) -> None:
    before = state(env)
    os.remove(env.path(NOTIFIER))
    try:
        mdevctl(env, "start", 1, device(["0,1"], ["1"]), code=1)
        assert ledger(env).claims
        assert env.apvfio("reconcile").returncode == 0
        assert state(env) == before
        mdevctl(env, "start", 1, device(["0"], ["1"]))
        mdevctl(env, "stop", 1)
        assert ledger(env).pending
        assert env.apvfio("reconcile").returncode == 0
        assert state(env) == before
        assert not ledger(env).claims
    finally:
        install(env.lab, "mdevctl-notifier", NOTIFIER)

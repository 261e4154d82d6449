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
def house(scripted_lab: Lab) -> Iterator[LabEnv]:
    house = LabEnv(scripted_lab)
    yield house
    house.clean()


class TestMdevctl(MoreMdevctlCases):
    """The common cases."""


def test_on_a_host_of_overrides_nothing_is_taken_unasked(house: LabEnv) -> None:
    before = state(house)
    assert house.apvfio("mechanism", "overrides").returncode == 0
    try:
        assert mdevctl(house, "start", 1, device(["0"], ["1", "2"])) == ""
        assert with_driver(state(house).host, VFIO_DRIVER) == {"00.0001", "00.0002"}
        assert house.apvfio("reconcile").stdout.startswith("nothing to do")
        mdevctl(house, "stop", 1)
        assert state(house) == before
    finally:
        assert house.apvfio("mechanism", "masks").returncode == 0


def test_without_the_callout_the_notifier_pays_what_a_foreign_device_kept(house: LabEnv) -> None:
    before = state(house)
    os.remove(house.path(CALLOUT))
    try:
        refused = mdevctl(house, "start", 1, device(["0"], ["4"]), code=1)
        assert "apvfio" not in refused
        house.define("mine", None, mdev(2))
        house.apvfio("guest", "set", "mine", "--adapters", "0", "--domains", "1-2")
        house.virsh("start", "--paused", "mine")
        mdevctl(house, "start", 1, device(["0"], ["4"]))
        house.virsh("destroy", "mine")
        assert ledger(house).pending
        mdevctl(house, "stop", 1)
        assert state(house) == before
    finally:
        install(house.lab, "mdevctl-callout", CALLOUT)


def test_without_the_notifier_the_next_reconcile_pays(house: LabEnv) -> None:
    before = state(house)
    os.remove(house.path(NOTIFIER))
    try:
        mdevctl(house, "start", 1, device(["0,1"], ["1"]), code=1)
        assert ledger(house).claims
        assert house.apvfio("reconcile").returncode == 0
        assert state(house) == before
        mdevctl(house, "start", 1, device(["0"], ["1"]))
        mdevctl(house, "stop", 1)
        assert ledger(house).pending
        assert house.apvfio("reconcile").returncode == 0
        assert state(house) == before
        assert not ledger(house).claims
    finally:
        install(house.lab, "mdevctl-notifier", NOTIFIER)

# SPDX-License-Identifier: Apache-2.0
"""Guests changed while they run, under a real libvirtd, on a simulated host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import live_cases
from lab.hook import hook_script
from lab_env import LabEnv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lab import Lab
    from lab_env import MakeLab


@pytest.fixture(scope="module")
def live_lab(make_lab: MakeLab) -> Iterator[Lab]:
    with make_lab(hook_script()) as lab:
        yield lab


@pytest.fixture
def env(live_lab: Lab) -> Iterator[LabEnv]:
    env = LabEnv(live_lab)
    yield env
    env.clean()


class TestLiveChanges(live_cases.LiveChanges):
    """Adapters and domains come and go."""


class TestDrains(live_cases.Drains):
    """A guest by criteria is moved before a planned change, and back after it."""


class TestInterrupted(live_cases.Interrupted):
    """The next reconcile completes or undoes what a killed command has left."""


class TestNotPluggedIn(live_cases.NotPluggedIn):
    """An emulated guest has no bus to plug a device into."""

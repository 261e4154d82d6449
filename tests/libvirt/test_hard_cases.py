# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases under a real libvirtd, on a simulated host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import changed_guest_cases
import daemon_cases
import failure_cases
from lab.hook import hook_script
from lab_env import LabEnv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.lab import Lab
    from lab_env import MakeLab


@pytest.fixture(scope="module")
def hard_lab(make_lab: MakeLab) -> Iterator[Lab]:
    with make_lab(hook_script()) as lab:
        yield lab


@pytest.fixture
def env(hard_lab: Lab) -> Iterator[LabEnv]:
    env = LabEnv(hard_lab)
    yield env
    env.clean()


class TestKilledInPrepare(daemon_cases.KilledInPrepare):
    """The daemon is killed in the middle of a start."""


class TestOrphans(daemon_cases.Orphans):
    """Hooks that outlive their daemon."""


class TestReconnects(daemon_cases.Reconnects):
    """The daemon comes back."""


class TestEndings(failure_cases.Endings):
    """Guests end as they should not."""


class TestHeldLocks(failure_cases.HeldLocks):
    """Others hold a lock."""


class TestIdentities(changed_guest_cases.Identities):
    """Names, uuids and devices change hands."""


class TestAnnotations(changed_guest_cases.Annotations):
    """Annotations change while guests run."""


class TestUnplugging(changed_guest_cases.Unplugging):
    """Devices are plugged out; an emulated guest has no bus to plug one into."""


class TestSaving(changed_guest_cases.Saving):
    """Memory is saved and restored."""


class TestSaved(changed_guest_cases.Saved):
    """An emulated guest can be saved: its QEMU does not know of the device."""


class TestCrowds(changed_guest_cases.Crowds):
    """Many guests at once."""

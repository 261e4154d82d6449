# SPDX-License-Identifier: Apache-2.0
"""Which of the kernels that can be simulated runs here, and what its habits mean for tests."""

from __future__ import annotations

import os

import pytest

from apvfio.sim.profile import DRAFT_MIGRATION, PROFILES, Profile


def running() -> Profile:
    """The profile of this machine's kernel: the newest that is no newer. No machine runs the draft of one."""
    released = [profile for profile in PROFILES.values() if profile.name != DRAFT_MIGRATION]
    here, known = os.uname().release, sorted(released, key=lambda profile: _version(profile.name))
    older = [profile for profile in known if _version(profile.name) <= _version(here)]
    return (older or known[:1])[-1]


def _version(text: str) -> tuple[int, int]:
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


where_qemu_is_asked = pytest.mark.skipif(
    not running().asks_to_let_go, reason="who removes an open device waits until QEMU has ended"
)
where_masks_are_slow = pytest.mark.skipif(
    running().name == "6.1", reason="only what a device has is reset: no mask write is slow"
)

# SPDX-License-Identifier: Apache-2.0
"""Guests changed while they run, as KVM guests whose QEMU has the device open, on the real drivers."""

import live_cases


class TestLiveChanges(live_cases.LiveChanges):
    """Adapters and domains come and go: more of both, less of one, others of both."""

    changes = (("0-1", "1-2,4"), ("1", "1-2,4"), ("10", "1,27"))


class TestDrains(live_cases.Drains):
    """A guest by criteria is moved before a planned change, and back after it."""


class TestPluggedIn(live_cases.PluggedIn):
    """A device is plugged in and out."""

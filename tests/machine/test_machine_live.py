# SPDX-License-Identifier: Apache-2.0
"""Guests changed while they run, as KVM guests whose QEMU has the device open, on the real drivers."""

import live_cases


class TestLiveChanges(live_cases.LiveChanges):
    """Adapters and domains come and go."""


class TestPluggedIn(live_cases.PluggedIn):
    """A device is plugged in and out."""

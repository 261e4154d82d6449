# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases with KVM guests whose QEMU really opens the mediated device, on the real drivers."""

import changed_guests
import daemon_cases
import hard_cases


class TestKilledInPrepare(daemon_cases.KilledInPrepare):
    """The daemon is killed in the middle of a start."""


class TestOrphans(daemon_cases.Orphans):
    """Hooks that outlive their daemon."""


class TestReconnects(daemon_cases.Reconnects):
    """The daemon comes back."""


class TestEndings(hard_cases.Endings):
    """Guests end as they should not."""


class TestHeldLocks(hard_cases.HeldLocks):
    """Others hold a lock."""


class TestIdentities(changed_guests.Identities):
    """Names, uuids and devices change hands."""


class TestAnnotations(changed_guests.Annotations):
    """Annotations change while guests run."""


class TestPlugging(changed_guests.Plugging):
    """Devices are plugged in and out."""


class TestSaving(changed_guests.Saving):
    """Memory is saved and restored."""


class TestNotSaved(changed_guests.NotSaved):
    """A device cannot be saved."""


class TestCrowds(changed_guests.Crowds):
    """Many guests at once."""

    pairs = 4

# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases with KVM guests whose QEMU really opens the mediated device, on the real drivers."""

import changed_guests
import daemon_cases
import hard_cases
from hard_house import HardHouse, essential
from kernels import where_qemu_is_asked


class TestKilledInPrepare(daemon_cases.KilledInPrepare):
    """The daemon is killed in the middle of a start."""


class TestOrphans(daemon_cases.Orphans):
    """Hooks that outlive their daemon."""


class TestReconnects(daemon_cases.Reconnects):
    """The daemon comes back."""

    @essential
    @where_qemu_is_asked
    def test_a_guest_whose_device_is_gone_is_ended_by_libvirt_itself(self, house: HardHouse) -> None:
        super().test_a_guest_whose_device_is_gone_is_ended_by_libvirt_itself(house)


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

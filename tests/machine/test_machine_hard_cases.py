# SPDX-License-Identifier: Apache-2.0
"""libvirt's hard cases with KVM guests whose QEMU really opens the mediated device, on the real drivers."""

import changed_guest_cases
import daemon_cases
import failure_cases
from daemon_env import DaemonEnv, essential
from this_kernel import where_qemu_is_asked


class TestKilledInPrepare(daemon_cases.KilledInPrepare):
    """The daemon is killed in the middle of a start."""


class TestOrphans(daemon_cases.Orphans):
    """Hooks that outlive their daemon."""


class TestReconnects(daemon_cases.Reconnects):
    """The daemon comes back."""

    @essential
    @where_qemu_is_asked
    def test_a_guest_whose_device_is_gone_is_ended_by_libvirt_itself(self, env: DaemonEnv) -> None:
        super().test_a_guest_whose_device_is_gone_is_ended_by_libvirt_itself(env)


class TestEndings(failure_cases.Endings):
    """Guests end as they should not."""


class TestHeldLocks(failure_cases.HeldLocks):
    """Others hold a lock."""


class TestIdentities(changed_guest_cases.Identities):
    """Names, uuids and devices change hands."""


class TestAnnotations(changed_guest_cases.Annotations):
    """Annotations change while guests run."""


class TestPlugging(changed_guest_cases.Plugging):
    """Devices are plugged in and out."""


class TestSaving(changed_guest_cases.Saving):
    """Memory is saved and restored."""


class TestNotSaved(changed_guest_cases.NotSaved):
    """A device cannot be saved."""


class TestCrowds(changed_guest_cases.Crowds):
    """Many guests at once."""

    several = pairs = 4

# SPDX-License-Identifier: Apache-2.0
"""virsh start and destroy of KVM guests whose QEMU really opens the mediated device."""

from lifecycle_cases import Lifecycle


class TestLifecycle(Lifecycle):
    """The common cases."""

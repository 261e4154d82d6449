# SPDX-License-Identifier: Apache-2.0
"""The differences between the kernel versions that can be simulated."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.model.errors import RequestError

LINUX_6_1, LINUX_6_12, LINUX_7_2, LINUX_7_3 = "6.1", "6.12", "7.2", "7.3"
DRAFT_MIGRATION = "draft-migration"
"""7.3 with the draft of vfio_ap's live migration, which no Linux has."""
NEWEST = LINUX_7_2


class Profile(NamedTuple):
    """The abilities and habits of one kernel version."""

    name: str
    overrides: bool = False
    """Queues have ``driver_override``, which excludes the masks (que:driver_override_store)."""
    strict_return: bool = False
    """The in-use check takes the other mask for all ones (bus:__verify_card_reservations)."""
    complete_count: bool = False
    """The bus counts complete bindings in a file (bus:bindings_complete_count_show)."""
    features: bool = False
    """The bus has ``features``, queues have ``ap_functions`` (bus:features_show)."""
    ap_config: bool = False
    """Mediated devices have ``ap_config``, their parent has ``features`` (vops:ap_config_store)."""
    passes_deconfigured: bool = False
    """A queue whose reset ended as deconfigured may go to a guest (vops:_queue_passable)."""
    resets_filtered: bool = False
    """An adapter that a guest loses for want of one queue is reset (vops:reset_queues_for_apids)."""
    kstrto: bool = False
    """The bus attributes use kstrtobool and kstrtoul, not sscanf (bus:poll_timeout_store)."""
    long_bools: bool = False
    """kstrtobool takes enable and disable, too (lib/kstrtox.c)."""
    bounded_matrix: bool = False
    """``matrix`` stops at a page's end instead of writing beyond it (vops:vfio_ap_mdev_matrix_show)."""
    asks_to_let_go: bool = False
    """Removing an open mediated device asks QEMU to close it (vops:vfio_ap_mdev_request)."""
    migratable: bool = False
    """A device's state can be taken to another host, which ``features`` of the matrix device tells."""


_LINUX_6_1 = Profile(LINUX_6_1)
_LINUX_6_12 = _LINUX_6_1._replace(
    name=LINUX_6_12,
    features=True,
    ap_config=True,
    passes_deconfigured=True,
    resets_filtered=True,
    kstrto=True,
    asks_to_let_go=True,
)
_LINUX_7_2 = _LINUX_6_12._replace(
    name=LINUX_7_2,
    overrides=True,
    strict_return=True,
    complete_count=True,
    long_bools=True,
    bounded_matrix=True,
)
_LINUX_7_3 = _LINUX_7_2._replace(name=LINUX_7_3)
"""7.3-rc7 changes nothing of vfio_ap_drv.c, vfio_ap_ops.c and ap_queue.c. Who waits for a scan in a write to
``scans`` is interrupted by SIGKILL only (bus:ap_bus_force_rescan); in the simulator nobody waits."""
_DRAFT_MIGRATION = _LINUX_7_3._replace(name=DRAFT_MIGRATION, migratable=True)
PROFILES = {
    profile.name: profile for profile in (_LINUX_6_1, _LINUX_6_12, _LINUX_7_2, _LINUX_7_3, _DRAFT_MIGRATION)
}
"""By version: Linux 6.1.192, 6.12.107, 7.2.13 and 7.3-rc7; and that draft."""


def profile_named(name: str) -> Profile:
    """The profile of that kernel version; RequestError if there is none."""
    if name not in PROFILES:
        raise RequestError(
            f"kernel {name[:20]!r} cannot be simulated.", remedy=f"Choose one of {', '.join(PROFILES)}."
        )
    return PROFILES[name]

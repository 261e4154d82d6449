# SPDX-License-Identifier: Apache-2.0
"""All checks by group, in the order in which they run; docs/doctor.md describes each."""

from __future__ import annotations

CATALOGUE = {
    "kernel": (
        *("ap-bus", "adapters", "drivers", "vfio-ap", "guest-matrix", "vfio", "mechanism", "overrides"),
    ),
    "apvfio": ("run-directory", "policy", "drains", "ledger", "lock", "s390-lock", "drift"),
    "libvirt": (
        *("libvirt", "connection", "hook", "python", "hook-label", "selinux", "apparmor", "exposed"),
        *("other-hooks", "hook-seen"),
    ),
    "tools": ("mdevctl", "s390-tools", "callouts", "ap-check"),
    "units": ("files", "units", "deferred-returns", "libvirt-guests"),
    "host": ("cards", "foreign-devices", "masks", "stored-masks"),
    "cluster": (
        *(
            "cluster",
            "fencing",
            "placement",
            "publisher",
            "published",
            "cluster-guest",
            "cluster-ssh",
            "cluster-clock",
        ),
    ),
    "guests": (
        *("guest", "saved", "annotation", "device", "definition", "machine", "cpu", "kvm"),
        *("secure-execution", "absent", "held", "refused", "criteria", "cards-asked", "same-device"),
        *("same-queues", "start"),
    ),
}
CHECK_FAILED = "check-failed"
"""A check that itself failed; it may come in any group and is listed with the first."""

GROUP_OF = {name: group for group, names in CATALOGUE.items() for name in names} | {CHECK_FAILED: "apvfio"}

# SPDX-License-Identifier: Apache-2.0
"""What is measured; docs/metrics.md tells of each. Names and labels stay what they are."""

from __future__ import annotations

from apvfio.view.metrics.exposition import COUNTER, GAUGE, Family

UP = Family("apvfio_up", GAUGE, "Whether the host and apvfio's files could be read.")
BUILD = Family("apvfio_build_info", GAUGE, "The version of apvfio.", ("version",))
MECHANISM = Family(
    "apvfio_mode_info", GAUGE, "By which of the kernel's mechanisms queues change hands.", ("mode",)
)
VFIO_AP = Family("apvfio_vfio_ap_loaded", GAUGE, "Whether the module vfio_ap is there.")
QUEUES = Family("apvfio_queues", GAUGE, "The host's queues, by who has them.", ("owner",))
STATES = Family("apvfio_queue_states", GAUGE, "Queues of which there is more to say.", ("state",))
ADAPTERS = Family(
    "apvfio_adapter_queues", GAUGE, "An adapter's queues, by who has them.", ("adapter", "type", "owner")
)
RESERVED = Family(
    "apvfio_reserved_queues_missing", GAUGE, "Queues that the policy reserves and the host lacks."
)
GUESTS = Family("apvfio_guest_queues", GAUGE, "Queues that a guest holds.", ("guest", "uuid", "mdev"))
LEASES = Family("apvfio_leases", GAUGE, "Holds of guests on queues.", ("state",))
CLAIMS = Family("apvfio_promises", GAUGE, "Devices that mdevctl makes, for which queues were freed.")
PENDING_BITS = Family("apvfio_owed_mask_bits", GAUGE, "Mask bits that apvfio cleared.", ("mask",))
OVERDUE_BITS = Family(
    "apvfio_overdue_mask_bits", GAUGE, "Mask bits owed to the host that no guest needs any more.", ("mask",)
)
PENDING_OVERRIDES = Family("apvfio_owed_overrides", GAUGE, "Queues whose driver_override apvfio set.")
OVERDUE_OVERRIDES = Family(
    "apvfio_overdue_overrides", GAUGE, "Queues owed to the host by their driver_override that no guest needs."
)
DRIFT = Family("apvfio_drift", GAUGE, "Differences between the host and the ledger.")
EVENTS = Family("apvfio_events_total", COUNTER, "What happened since the trail began.", ("event",))
DAMAGED = Family("apvfio_trail_damaged_lines", GAUGE, "Lines of the trail that cannot be understood.")

FAMILIES = (
    *(UP, BUILD, MECHANISM, VFIO_AP, QUEUES, STATES, ADAPTERS, RESERVED, GUESTS, LEASES, CLAIMS),
    *(PENDING_BITS, OVERDUE_BITS, PENDING_OVERRIDES, OVERDUE_OVERRIDES, DRIFT, EVENTS, DAMAGED),
)

# SPDX-License-Identifier: Apache-2.0
"""The metrics, explained in docs/metrics.md, in Prometheus' text format.

Names and labels do not change. The format is prometheus.io, "Exposition formats", version 0.0.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


GAUGE = "gauge"
COUNTER = "counter"


class Family(NamedTuple):
    """What is measured: all samples of one name."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: str = GAUGE
    """`GAUGE` or `COUNTER`."""


class Sample(NamedTuple):
    """One number; the values of its labels, in the order of the family's, are anybody's text."""

    values: tuple[str, ...]
    number: int


def text(measured: Mapping[Family, Iterable[Sample]]) -> str:
    """Return the families as a file for the textfile collector; one without samples has its heading, too."""
    return "".join(f"{line}\n" for family, samples in measured.items() for line in _lines(family, samples))


def _lines(family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for sample in samples:
        pairs = [f'{name}="{_quoted(value)}"' for name, value in zip(family.labels, sample.values)]
        labels = f"{{{','.join(pairs)}}}" if pairs else ""
        yield f"{family.name}{labels} {sample.number}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    # A name may come with what no UTF-8 has.
    encodable = value.encode("utf-8", "replace").decode()
    return _escaped(encodable).replace('"', r"\"")


UP = Family("apvfio_up", "Whether the host and apvfio's files could be read.")
BUILD = Family("apvfio_build_info", "The version of apvfio.", ("version",))
MECHANISM = Family("apvfio_mechanism_info", "1 for the mechanism in use, 0 for the other.", ("mechanism",))
VFIO_AP = Family("apvfio_vfio_ap_loaded", "Whether the module vfio_ap is loaded.")
QUEUES = Family("apvfio_queues", "The host's queues by owner.", ("owner",))
STATES = Family("apvfio_queue_states", "Queues in a special state.", ("state",))
ADAPTERS = Family("apvfio_adapter_queues", "An adapter's queues by owner.", ("adapter", "type", "owner"))
RESERVED = Family("apvfio_reserved_queues_missing", "Queues that the policy reserves and the host lacks.")
GUESTS = Family("apvfio_guest_queues", "Queues that a guest holds.", ("guest", "uuid", "mdev"))
LEASES = Family("apvfio_leases", "Leases of guests.", ("state",))
CLAIMS = Family("apvfio_claims", "Mediated devices that mdevctl is creating, for which queues are kept free.")
PENDING_BITS = Family("apvfio_pending_mask_bits", "Pending returns of mask bits.", ("mask",))
UNNEEDED_BITS = Family(
    "apvfio_unneeded_mask_bits", "Pending returns of mask bits that no guest needs.", ("mask",)
)
PENDING_OVERRIDES = Family("apvfio_pending_overrides", "Pending returns of a driver_override.")
UNNEEDED_OVERRIDES = Family(
    "apvfio_unneeded_overrides", "Pending returns of a driver_override that no guest needs."
)
DRIFT = Family("apvfio_drift", "Differences between the host and the ledger.")
EVENTS = Family("apvfio_events_total", "Events since the audit log began.", ("event",), COUNTER)
DAMAGED = Family("apvfio_audit_log_damaged_lines", "Lines of the audit log that cannot be understood.")

FAMILIES = (
    *(UP, BUILD, MECHANISM, VFIO_AP, QUEUES, STATES, ADAPTERS, RESERVED, GUESTS, LEASES, CLAIMS),
    *(PENDING_BITS, UNNEEDED_BITS, PENDING_OVERRIDES, UNNEEDED_OVERRIDES, DRIFT, EVENTS, DAMAGED),
)

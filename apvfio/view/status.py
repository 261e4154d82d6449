# SPDX-License-Identifier: Apache-2.0
"""The status of a host as a report for people, as a picture and as the document that ``--json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.ids import format_list
from apvfio.store.ledger_file import pending_json
from apvfio.view.clock import utc_of_boot_time
from apvfio.view.picture import picture
from apvfio.view.status_report import report

if TYPE_CHECKING:
    from apvfio.libvirt.status import Status
    from apvfio.model.ledger import Claim, Lease
    from apvfio.view.picture import Picture
    from apvfio.view.status_report import Report


def status_report(found: Status) -> Report:
    """The status for a person."""
    error = str(found.policy_error or "")
    return report(
        found.host, found.ledger, found.mechanism, status_picture(found), found.drift, policy_error=error
    )


def status_picture(found: Status) -> Picture:
    """The matrix as every form of it shows it."""
    return picture(found.owners, found.policy.reserves, found.seen)


def status_json(found: Status) -> dict[str, object]:
    """The document that ``--json`` prints."""
    host = found.host
    return {
        "mechanism": found.mechanism,
        "kernel": {"vfio_ap": host.vfio_ap, **host.abilities._asdict()},
        "apmask": format_list(host.apmask),
        "aqmask": format_list(host.aqmask),
        "queues": [
            {
                "queue": str(queue),
                "driver": host.drivers[queue] or None,
                "owner": str(owner),
                "state": found.seen.states.get(queue),
            }
            for queue, owner in found.owners.items()
        ],
        "leases": [
            {**lease_json(lease), "running": _running(found, lease.uuid)}
            for lease in found.ledger.leases.values()
        ],
        "claims": [_claim_json(claim) for claim in found.ledger.claims.values()],
        "pending": pending_json(found.ledger),
        "pending_returns": [one.as_json() for one in found.pending],
        "drift": found.drift,
        "policy_error": found.policy_error and found.policy_error.as_json(),
        "picture": status_picture(found).as_json(),
    }


def lease_json(lease: Lease) -> dict[str, object]:
    """A lease as ``--json`` prints it."""
    return {
        "guest": lease.guest,
        "uuid": lease.uuid,
        "mdev": lease.mdev,
        **lease.matrix.lists(),
        "freed_by": lease.freed_by,
        "state": lease.state,
        "created": lease.created,
        "since": utc_of_boot_time(lease.since),
        "expected": lease.expected,
    }


def _claim_json(claim: Claim) -> dict[str, object]:
    return {
        "mdev": claim.mdev,
        **claim.matrix.lists(),
        "freed_by": claim.freed_by,
        "pid": claim.process.pid,
    }


def _running(found: Status, guest_uuid: str) -> bool | None:
    """Whether the guest has a QEMU process; None where nobody can tell."""
    return None if found.running is None else guest_uuid in found.running

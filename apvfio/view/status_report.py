# SPDX-License-Identifier: Apache-2.0
"""The output of ``apvfio status``, as text and as the document of ``--json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import printable
from apvfio.model.host import HOST_DRIVER
from apvfio.model.ids import format_list
from apvfio.model.text import some_queues
from apvfio.store.ledger_file import pending_json
from apvfio.view.clock import utc_of_boot_time
from apvfio.view.columns import fold
from apvfio.view.drain_report import drain_state_json, drains_lines
from apvfio.view.matrix_text import matrix
from apvfio.view.paint import RED, YELLOW, painted
from apvfio.view.picture import Picture, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.libvirt.status import Status
    from apvfio.model.host import Host
    from apvfio.model.ledger import Claim, Lease, Ledger
    from apvfio.model.matrix import Apqn
    from apvfio.view.matrix_text import Look
    from apvfio.view.picture import Picture


_LONGEST = 1000
POLICY = "policy"
"""The name of the fact that the policy cannot be used."""


class Report(NamedTuple):
    """A host's state for a person."""

    facts: tuple[tuple[str, str], ...]
    """Name and value: the mechanism, what the kernel can do, the masks, what is wrong with the policy."""
    picture: Picture
    leases: tuple[str, ...]
    """A sentence for each guest that holds queues, and each device that mdevctl makes; never empty."""
    pending: str
    """The pending returns with what holds them; ``nothing`` if there are none."""
    drift: tuple[str, ...]
    """A sentence for everything that is not as it should be."""
    keys: str = ""
    """Since when master keys are remembered that cannot be read now; '' if there are none."""


def status_report(found: Status) -> Report:
    """Return the status for a person."""
    host, error = found.host, found.policy_error
    return Report(
        facts=(
            ("mechanism", found.mechanism),
            ("kernel", _kernel(host)),
            ("apmask", str(host.apmask or "empty")),
            ("aqmask", str(host.aqmask or "empty")),
            *([(POLICY, printable(str(error), _LONGEST))] if error else []),
            *drains_lines(found.drains),
        ),
        picture=_picture(found),
        leases=_leases(found.ledger),
        pending="; ".join(printable(f"{one} ({one.why})", _LONGEST) for one in found.pending) or "nothing",
        # They may name drivers, and what a sysfs holds need not be the kernel's.
        drift=tuple(printable(sentence, _LONGEST) for sentence in found.drift),
        keys=_keys(found),
    )


def _picture(found: Status) -> Picture:
    return picture(found.owners, found.policy.reserves, found.seen)


def _kernel(host: Host) -> str:
    able = [
        *(["override"] if host.abilities.override else []),
        *(["ap_config"] if host.abilities.ap_config else []),
        *(["strict return"] if host.abilities.strict_return else []),
    ]
    return ", ".join([f"vfio_ap {'loaded' if host.vfio_ap else 'NOT loaded'}", *able])


def _leases(ledger: Ledger) -> tuple[str, ...]:
    guests = [
        f"guest {printable(lease.guest)}{_secure(lease)}: {lease.matrix}; freed by {lease.freed_by}, "
        f"{lease.state}, mdev {lease.mdev}"
        for lease in ledger.leases.values()
    ]
    devices = [
        f"mdevctl starts a device: {claim.matrix}; freed by {claim.freed_by}, mdev {claim.mdev}, "
        f"process {claim.process.pid}"
        for claim in ledger.claims.values()
    ]
    return (*(guests or ["no guest holds queues"]), *devices)


def _secure(lease: Lease) -> str:
    return " (Secure Execution)" if lease.secure else ""


def _keys(found: Status) -> str:
    drivers = found.host.drivers
    old = {
        queue: keys for queue, keys in found.keys.items() if drivers.get(queue, HOST_DRIVER) != HOST_DRIVER
    }
    if not old:
        return ""
    return f"{some_queues(old)}, read at {min(old.values(), key=lambda keys: keys.seen).when} or later"


def status(shown: Report, look: Look) -> Iterator[str]:
    """Return the lines that ``apvfio status`` prints."""
    width = look.width if look.folds else None
    for name, value in shown.facts:
        color = RED if name == POLICY else ""
        for line in fold(f"{name:<9}  {value}", width, 11):
            yield painted(line, color, on=look.color and bool(color))
    yield ""
    yield from matrix(shown.picture, look)
    yield ""
    keys = [f"remembered master keys: {shown.keys}"] if shown.keys else []
    for sentence in (*shown.leases, f"pending returns: {shown.pending}", *keys):
        yield from fold(sentence, width)
    if shown.drift:
        yield ""
        for sentence in ("drift:", *(f"  {sentence}" for sentence in shown.drift)):
            for line in fold(sentence, width):
                yield painted(line, YELLOW, on=look.color)


def status_json(found: Status) -> dict[str, object]:
    """The document that ``--json`` prints."""
    host = found.host
    return {
        "mechanism": found.mechanism,
        "kernel": {"vfio_ap": host.vfio_ap, **host.abilities._asdict()},
        "apmask": format_list(host.apmask),
        "aqmask": format_list(host.aqmask),
        "queues": [queue_json(found, queue) for queue in found.owners],
        "leases": [running_lease_json(found, lease) for lease in found.ledger.leases.values()],
        "claims": [claim_json(claim) for claim in found.ledger.claims.values()],
        "pending": pending_json(found.ledger),
        "pending_returns": [one.as_json() for one in found.pending],
        "drift": found.drift,
        "drains": [drain_state_json(drain) for drain in found.drains],
        "policy_error": found.policy_error and found.policy_error.as_json(),
        "picture": _picture(found).as_json(),
    }


def queue_json(found: Status, queue: Apqn) -> dict[str, object]:
    """A queue and its owner as ``--json`` prints them."""
    keys = found.keys.get(queue)
    return {
        "queue": str(queue),
        "driver": found.host.drivers[queue] or None,
        "owner": str(found.owners[queue]),
        "state": found.seen.states.get(queue),
        "master_keys": keys.as_json() if keys else None,
    }


def running_lease_json(found: Status, lease: Lease) -> dict[str, object]:
    """A lease, and whether its guest runs, None where nobody can tell."""
    return {**lease_json(lease), "running": None if found.running is None else lease.uuid in found.running}


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
        "secure_execution": lease.secure,
    }


def claim_json(claim: Claim) -> dict[str, object]:
    """A claim as ``--json`` prints it."""
    return {
        "mdev": claim.mdev,
        **claim.matrix.lists(),
        "freed_by": claim.freed_by,
        "pid": claim.process.pid,
    }

# SPDX-License-Identifier: Apache-2.0
"""All that ``apvfio status`` tells, in words: what every form of it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.model.errors import printable
from apvfio.model.host import MASK_NAMES
from apvfio.model.text import some_queues
from apvfio.view.columns import fold
from apvfio.view.matrix_text import matrix
from apvfio.view.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apvfio.model.host import Host
    from apvfio.model.ledger import Claim, Lease, Ledger
    from apvfio.view.matrix_text import Look

_LONGEST = 1000


class Report(NamedTuple):
    """A host's state for a person."""

    facts: tuple[tuple[str, str], ...]
    """Name and value: the mechanism, what the kernel can do, the masks, what is wrong with the policy."""
    picture: Picture
    leases: tuple[str, ...]
    """A sentence for each guest that holds queues, and each device that mdevctl makes; never empty."""
    pending: str
    """What is owed to the host; ``nothing`` if nothing is."""
    drift: tuple[str, ...]
    """A sentence for everything that is not as it should be."""


def report(
    host: Host,
    ledger: Ledger,
    mechanism: str,
    drawn: Picture,
    drift: Sequence[str],
    *,
    policy_error: str = "",
) -> Report:
    """What there is to say of ``host``, which differs from the ledger by ``drift``.

    ``policy_error`` says why the policy cannot be used, '' if it can.
    """
    return Report(
        facts=(
            ("mechanism", mechanism),
            ("kernel", _kernel(host)),
            ("apmask", str(host.apmask or "empty")),
            ("aqmask", str(host.aqmask or "empty")),
            *([("policy", printable(policy_error, _LONGEST))] if policy_error else []),
        ),
        picture=drawn,
        leases=_leases(ledger),
        pending=_debt(ledger),
        # They may name drivers, and what a sysfs holds need not be the kernel's.
        drift=tuple(printable(sentence, _LONGEST) for sentence in drift),
    )


def _kernel(host: Host) -> str:
    able = [
        *(["override"] if host.abilities.override else []),
        *(["ap_config"] if host.abilities.ap_config else []),
        *(["strict return"] if host.abilities.strict_return else []),
    ]
    return ", ".join([f"vfio_ap {'loaded' if host.vfio_ap else 'NOT loaded'}", *able])


def _leases(ledger: Ledger) -> tuple[str, ...]:
    guests = [f"guest {printable(lease.guest)}: {_lease(lease)}" for lease in ledger.leases.values()]
    return (*(guests or ["no guest holds queues"]), *map(_promise, ledger.claims.values()))


def _promise(claim: Claim) -> str:
    return (
        f"mdevctl starts a device: {claim.matrix}; freed by {claim.freed_by}, "
        f"mdev {claim.mdev}, process {claim.process.pid}"
    )


def _lease(lease: Lease) -> str:
    return f"{lease.matrix}; freed by {lease.freed_by}, {lease.state}, mdev {lease.mdev}"


def _debt(ledger: Ledger) -> str:
    parts = [f"{name} {ids}" for name, ids in zip(MASK_NAMES, ledger.pending) if ids]
    if ledger.overrides:
        parts.append(f"driver_override of {some_queues(ledger.overrides)}")
    return ", ".join(parts) or "nothing"


def status(told: Report, look: Look) -> Iterator[str]:
    """What the command prints, line by line."""
    width = look.width if look.folds else None
    for name, value in told.facts:
        yield from fold(f"{name:<9}  {value}", width, 11)
    yield ""
    yield from matrix(told.picture, look)
    yield ""
    for sentence in (*told.leases, f"owed to the host: {told.pending}"):
        yield from fold(sentence, width)
    if told.drift:
        yield ""
        for line in ("not as it should be:", *(f"  {sentence}" for sentence in told.drift)):
            yield from fold(line, width)

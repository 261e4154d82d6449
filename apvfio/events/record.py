# SPDX-License-Identifier: Apache-2.0
"""Write the ledger, and record its changes in the audit log and in the journal of this machine."""

from __future__ import annotations

import time

from apvfio.events import audit_log
from apvfio.events.event import IGNORED, MASKS, PLANNED, REFUSED, Event
from apvfio.model.text import count_queues
from apvfio.store import ledger_file
from apvfio.store.system import on_this_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from apvfio.kernel.seam import System
    from apvfio.model.errors import ApvfioError
    from apvfio.model.ledger import Ledger
    from apvfio.model.request import Request
    from apvfio.plan.start_plan import Plan


def save(system: System, ledger: Ledger, found: Ledger) -> None:
    """Write ``ledger`` in place of ``found``, and record what that changes; under the lock."""
    ledger_file.save(system.files, ledger)
    changes(system, [found, ledger])


def changes(system: System, ledgers: Sequence[Ledger], plan: Plan | None = None) -> None:
    """Record what has changed from each of ``ledgers``, already written, to the next.

    With one ledger, record only what the log lacks of it: a call has died before it could do so. ``plan`` has
    led from the first ledger to the second.
    """
    planned = _planned(system, plan) if plan else None
    _publish(system, audit_log.append_changes(system.files, ledgers, time.time(), planned))


def _planned(system: System, plan: Plan) -> Event:
    """Return how a guest is to get its queues, and the collateral queues."""
    lease, other = plan.lease, plan.runner_up
    return Event(
        time.time(),
        PLANNED,
        system.boot_id,
        guest=lease.guest,
        uuid=lease.uuid,
        mdev=lease.mdev,
        matrix=lease.matrix,
        freed_by=lease.freed_by,
        text=f"by {other.name}: {count_queues(len(other.collateral), 'collateral')}" if other else "",
        collateral=tuple(map(str, plan.chosen.collateral)),
        warnings=plan.warnings,
    )


def note_refusal(system: System, error: ApvfioError) -> None:
    """Record that a guest was not started, and why."""
    _note(system, REFUSED, error.guest, text=f"{error.sentence} {error.remedy}".rstrip())


def note_ignored(system: System, device: Request) -> None:
    """Record that a guest starts whose ``device`` does not exist, and which requests nothing."""
    _note(system, IGNORED, device.guest, device.guest_uuid, device.mdev)


def note_masks(system: System, text: str) -> None:
    """Record how an administrator has changed the masks."""
    _note(system, MASKS, text=text)


def _note(
    system: System, kind: str, guest: str = "", uuid: str = "", mdev: str = "", *, text: str = ""
) -> None:
    event = Event(time.time(), kind, system.boot_id, guest, uuid, mdev, text=text)
    audit_log.note(system.files, event)
    _publish(system, [event])


def _publish(system: System, events: Sequence[Event]) -> None:
    if events and on_this_machine(system):
        from apvfio.events.journal import send  # noqa: PLC0415

        for event in events:
            send(event)

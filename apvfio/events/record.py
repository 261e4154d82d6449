# SPDX-License-Identifier: Apache-2.0
"""The ledger written, and what that tells told: to the audit log, and to the journal of this machine."""

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
    """Record what has changed from each of ``ledgers`` to the next, which were written already.

    With one ledger only what the log lacks of it: a call has died before it could record that. ``plan`` has
    led from the first ledger to the second.
    """
    planned = _planned(system, plan) if plan else None
    _publish(system, audit_log.append_changes(system.files, ledgers, time.time(), planned))


def _planned(system: System, plan: Plan) -> Event:
    """How a guest is to get its queues, and what that costs the host."""
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
        text=f"freeing its {other.name} would cost {count_queues(len(other.collateral))}" if other else "",
        collateral=tuple(map(str, plan.chosen.collateral)),
        warnings=plan.warnings,
    )


def note_refusal(system: System, error: ApvfioError) -> None:
    """A guest was not started, for this reason."""
    text = f"{error.sentence} {error.remedy}".rstrip()
    _note(system, Event(time.time(), REFUSED, system.boot_id, guest=error.guest, text=text))


def note_ignored(system: System, device: Request) -> None:
    """A guest starts whose ``device`` is not there, and requests nothing."""
    _note(
        system,
        Event(
            *(time.time(), IGNORED, system.boot_id),
            guest=device.guest,
            uuid=device.guest_uuid,
            mdev=device.mdev,
        ),
    )


def note_masks(system: System, text: str) -> None:
    """An administrator has changed the masks, in this way."""
    _note(system, Event(time.time(), MASKS, system.boot_id, text=text))


def _note(system: System, event: Event) -> None:
    audit_log.note(system.files, event)
    _publish(system, [event])


def _publish(system: System, events: Sequence[Event]) -> None:
    if events and on_this_machine(system):
        from apvfio.events.journal import send  # noqa: PLC0415

        for event in events:
            send(event)

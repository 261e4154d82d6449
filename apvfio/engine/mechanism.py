# SPDX-License-Identifier: Apache-2.0
"""Switch the host to the other mechanism: masks or overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.carry_out import finish_ended
from apvfio.engine.state import read_ledger
from apvfio.events import record
from apvfio.kernel.apply import apply_steps
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ConflictError, printable
from apvfio.model.host import MASK_NAMES, VFIO_DRIVER, Host
from apvfio.model.ledger import ENDING
from apvfio.model.progress import FOR_THE_LOCK, no_progress
from apvfio.model.text import resetting
from apvfio.plan.mechanism import host_after_switch, steps_to_mechanism
from apvfio.plan.steps import after_returns, without_returned

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.ledger import Ledger
    from apvfio.model.progress import Progress
    from apvfio.model.step import Step


class MechanismChange(NamedTuple):
    """A change of the mechanism."""

    before: Host
    after: Host


def preview_switch(system: System, mechanism: str) -> MechanismChange:
    """What `switch_mechanism` would do now; the errors are its errors. Nothing is changed."""
    before, _, ledger = read_ledger(system)
    ended = [lease.mdev for lease in ledger.leases.values() if lease.state == ENDING]
    ledger, host = after_returns(ledger, before)
    _steps(mechanism, host, ledger.without_leases(*ended))
    return MechanismChange(before, host_after_switch(mechanism, host))


def switch_mechanism(system: System, mechanism: str, *, progress: Progress = no_progress) -> MechanismChange:
    """Switch the host to the ``mechanism``, until the next boot.

    Mask bits that an administrator has cleared are set, and overrides that an administrator has set are
    cleared, as the command demands. ``progress`` hears what the call waits for.
    """
    progress(FOR_THE_LOCK)
    with system.lock():
        progress("")
        finish_ended(system)
        host, found, ledger = read_ledger(system)
        steps = _steps(mechanism, host, ledger)
        if steps:
            progress(resetting([queue for queue, driver in host.drivers.items() if driver == VFIO_DRIVER]))
        apply_steps(system.sysfs, steps)
        after = read_host(system.sysfs)
        # What an administrator cleared is set again, if the masks were opened.
        freed = ledger.cleared_by_admin - after.masks
        ledger = without_returned(ledger, after)._replace(mechanism=mechanism, cleared_by_admin=freed)
        record.save(system, ledger, found)
        masks = [f"{step.attribute} {step.value}" for step in steps if step.attribute in MASK_NAMES]
        if masks:
            record.note_masks(system, f"{'; '.join(masks)}, by 'apvfio mechanism {mechanism}'")
        return MechanismChange(host, after)


def _steps(mechanism: str, host: Host, ledger: Ledger) -> list[Step]:
    """Return the steps to the ``mechanism``; ConflictError while queues are needed by the other one."""
    changes = host.mechanism not in (None, mechanism)
    if ledger.claims and changes:
        raise ConflictError(
            f"mdevctl is starting the mediated device {next(iter(ledger.claims))}.",
            remedy="Try again when that has ended.",
        )
    if ledger.leases and changes:
        lease = next(iter(ledger.leases.values()))
        raise ConflictError(f"guest {printable(lease.guest)} holds queues.", remedy="Stop all guests first.")
    return steps_to_mechanism(mechanism, host)

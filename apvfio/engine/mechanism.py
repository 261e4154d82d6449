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
from apvfio.model.progress import FOR_THE_LOCK, no_progress
from apvfio.model.text import resetting
from apvfio.plan.mechanism import steps_to_mechanism
from apvfio.plan.steps import without_returned

if TYPE_CHECKING:
    from apvfio.kernel.seam import System
    from apvfio.model.progress import Progress


class MechanismChange(NamedTuple):
    """A change of the mechanism."""

    before: Host
    after: Host


def switch_mechanism(system: System, mechanism: str, *, progress: Progress = no_progress) -> MechanismChange:
    """Open the host for the ``mechanism``, and keep to it until the next boot.

    Mask bits that an administrator cleared are set and overrides that he set are cleared: he asked for it.
    ``progress`` hears what is waited for.
    """
    progress(FOR_THE_LOCK)
    with system.lock():
        progress("")
        finish_ended(system)
        host, found, ledger = read_ledger(system)
        changes = host.mechanism not in (None, mechanism)
        if ledger.claims and changes:
            raise ConflictError(
                f"mdevctl is starting the mediated device {next(iter(ledger.claims))}.",
                remedy="Try again when that has ended.",
            )
        if ledger.leases and changes:
            lease = next(iter(ledger.leases.values()))
            raise ConflictError(
                f"guest {printable(lease.guest)} holds queues.", remedy="Stop all guests first."
            )
        steps = steps_to_mechanism(mechanism, host)
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

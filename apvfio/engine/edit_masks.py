# SPDX-License-Identifier: Apache-2.0
"""Make an administrator's change of the masks: active masks in the kernel, stored masks on disk.

All checks precede the first write. Unlike chzdev, apvfio reads each write back. If the kernel refuses a
write, the masks are restored, and the call ends with an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.engine import chzdev
from apvfio.engine.carry_out import finish_ended
from apvfio.engine.kernel_move import require_still
from apvfio.engine.plan_start import remember_keys
from apvfio.engine.state import look
from apvfio.events import record
from apvfio.kernel.apply import bind_queues, check, write
from apvfio.kernel.snapshot import read_mask
from apvfio.kernel.usage import usage_of
from apvfio.model import persistent_masks
from apvfio.model.errors import ApvfioError
from apvfio.model.host import MASK_NAMES
from apvfio.model.ids import ALL_IDS, NO_IDS, format_change, format_list
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.progress import FOR_THE_LOCK, no_progress
from apvfio.model.step import FREE
from apvfio.model.text import resetting
from apvfio.plan.mask_edit import MaskChange, MaskEdit, MasksBefore, plan_edit
from apvfio.plan.mask_edit_checks import losses, require_possible, require_stored, weighed
from apvfio.store import definitions, masks_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apvfio.kernel.seam import Sysfs, System
    from apvfio.model.progress import Progress
    from apvfio.model.step import Step


def plan_masks(system: System, mask_edit: MaskEdit) -> MaskChange:
    """What ``mask_edit`` would do now; the errors are those of `change_masks`."""
    return _plan(system, mask_edit)[1]


def change_masks(
    system: System,
    mask_edit: MaskEdit,
    announce: Callable[[MaskChange], None],
    progress: Progress = no_progress,
) -> MaskChange:
    """Change the masks; ``announce`` hears the plan first, ``progress`` what the call waits for."""
    command = chzdev.find_chzdev(system)
    progress(FOR_THE_LOCK)
    with system.lock():
        progress("")
        finish_ended(system)
        before, change = _plan(system, mask_edit)
        if change.steps:
            require_still(before.ledger)
        announce(change)
        if change.steps:
            progress(resetting([*change.lost, *change.returned]))
        remember_keys(system, change.lost)
        _take(system.sysfs, change)
        # The pending returns change once the masks have: a change that failed leaves both as they were.
        if change.ledger != before.ledger:
            record.save(system, change.ledger, before.ledger)
        _note(system, (f"{step.attribute.rpartition('/')[2]} {step.value}" for step in change.steps))
        if not command:
            _store(change, lambda: masks_file.save(system.files, change.stored))
    if command:
        progress("waiting for chzdev to store the masks")
        _store(change, lambda: chzdev.store(command, system.files, change))
    _note(system, _stored(change))
    return change


def _plan(system: System, mask_edit: MaskEdit) -> tuple[MasksBefore, MaskChange]:
    host, ledger, policy = look(system)
    before = MasksBefore(
        host, ledger, policy, masks_file.load(system.files), definitions.autostarted(system.files)
    )
    require_stored(mask_edit, before)
    change = plan_edit(mask_edit, before)
    require_possible(before, change)
    warnings = list(change.warnings)
    for loss in losses(before, change):
        warnings += weighed(loss, usage_of(system, host, loss.queues, loss.policy))
    return before, change._replace(warnings=tuple(warnings))


def _note(system: System, parts: Iterable[str]) -> None:
    """Record the change in the audit log, if there was any."""
    if text := "; ".join(parts):
        record.note_masks(system, text)


def _stored(change: MaskChange) -> Iterator[str]:
    for name, ids in zip(MASK_NAMES, change.to_store):
        if ids is not None:
            yield f"{name} stored as {format_list(ids) or 'empty'}"
    yield from (f"{name} stored no longer" for name in change.to_remove)


def _store(change: MaskChange, store: Callable[[], None]) -> None:
    if change.to_store == persistent_masks.StoredMasks() and not change.to_remove:
        return
    try:
        store()
    except ApvfioError as error:
        if change.steps:
            error.adding(remedy="The active masks are changed; only storing them failed.")
        raise


def _take(sysfs: Sysfs, change: MaskChange) -> None:
    """Write the masks, or leave them as they were."""
    moved = (*change.lost, *change.returned)
    try:
        for step in change.steps:
            write(sysfs, step.path, step.value)
            check(sysfs, step)
        bind_queues(sysfs, moved)
    except ApvfioError as error:
        try:
            for step in reversed(change.steps):
                undoing, now = _undoing(step), read_mask(sysfs, step.attribute)
                # A write that failed may have taken effect.
                if parse_mask_spec(undoing).apply(now) != now:
                    write(sysfs, step.path, undoing)
            bind_queues(sysfs, moved)
        except ApvfioError as another:
            error.adding(remedy=f"Not all is as it was before: {another.sentence}")
        raise


def _undoing(step: Step) -> str:
    edit = parse_mask_spec(step.value)
    if step.op == FREE:
        return format_change(NO_IDS, ALL_IDS - edit.apply(ALL_IDS))
    return format_change(edit.apply(NO_IDS))

# SPDX-License-Identifier: Apache-2.0
"""Changes of the masks as `apvfio masks` makes them, without the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.engine.edit_masks import change_masks
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.plan.mask_edit import MaskEdit

if TYPE_CHECKING:
    from apvfio.kernel.seam import System


def mask_edit(
    apmask: str | None, aqmask: str | None, *, active: bool = True, persistent: bool = False
) -> MaskEdit:
    """A change of masks in chzdev's language."""
    first, second = (parse_mask_spec(text) if text else None for text in (apmask, aqmask))
    return MaskEdit(first, second, active=active, persistent=persistent)


def change(
    system: System,
    apmask: str | None,
    aqmask: str | None,
    *,
    active: bool = True,
    persistent: bool = False,
) -> None:
    """Make that change; what it announces is not looked at."""
    change_masks(system, mask_edit(apmask, aqmask, active=active, persistent=persistent), lambda _: None)

# SPDX-License-Identifier: Apache-2.0
"""Changes of the masks as `apvfio masks` makes them, without the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.mask import parse_edit
from apvfio.masks_change import change_masks
from apvfio.plan.edit import Wish

if TYPE_CHECKING:
    from apvfio.system import System


def change(
    system: System,
    apmask: str | None,
    aqmask: str | None,
    *,
    active: bool = True,
    persistent: bool = False,
) -> None:
    """Change masks in chzdev's language; what it announces is not looked at."""
    first, second = (parse_edit(text) if text else None for text in (apmask, aqmask))
    change_masks(system, Wish(first, second, active=active, persistent=persistent), lambda _: None)

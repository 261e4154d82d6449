# SPDX-License-Identifier: Apache-2.0
"""What ``lszdev --type ap`` prints of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.model.host import MASK_NAMES
from apvfio.model.ids import format_list
from apvfio.view.columns import bare_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apvfio.model.ids import IdSet
    from apvfio.model.persistent_masks import StoredMasks


def lszdev_lines(active: StoredMasks | None, persistent: StoredMasks | None) -> Iterator[str]:
    """What ``lszdev --type ap`` prints; None for a configuration that is not asked for."""
    yield "DEVICE TYPE ap"
    yield "  Description        : Cryptographic Adjunct Processor (AP) device"
    yield "  Modules            : ap"
    yield f"  Active             : {'no' if active is None else 'yes'}"
    yield f"  Persistent         : {'no' if persistent is None else 'yes'}"
    yield ""
    shown = [(h, s) for h, s in (("ACTIVE", active), ("PERSISTENT", persistent)) if s is not None]
    rows = [
        [name, *(_quoted(masks[i]) for _, masks in shown)]
        for i, name in enumerate(MASK_NAMES)
        if any(masks[i] is not None for _, masks in shown)
    ]
    if not rows:
        yield "  No settings found"
        return
    yield from (f"  {line}" for line in bare_table(["ATTRIBUTE", *(heading for heading, _ in shown)], rows))


def _quoted(ids: IdSet | None) -> str:
    return "-" if ids is None else f'"{format_list(ids)}"'

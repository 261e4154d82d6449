# SPDX-License-Identifier: Apache-2.0
"""The persistent masks as chzdev keeps them, read and written."""

from __future__ import annotations

from apvfio.model.persistent_masks import RULE, StoredMasks, format_rule, parse_rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.kernel.seam import Files

_MODE = 0o644


def load(files: Files) -> StoredMasks:
    """What is stored; RequestError if the file has a mask that is none."""
    return parse_rule(files.read(RULE) or "")


def save(files: Files, stored: StoredMasks) -> None:
    """Store the masks; with none of them the file goes, as with chzdev."""
    if stored == StoredMasks():
        files.remove(RULE)
    else:
        files.write(RULE, format_rule(stored), _MODE)

# SPDX-License-Identifier: Apache-2.0
"""Let chzdev store the persistent masks, if it is installed.

chzdev takes the lock of s390-tools itself, so the caller must not hold it. Its exit code proves little; what
it stored is read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.mdev import programs
from apvfio.model import persistent_masks
from apvfio.model.errors import ApvfioError, ConflictError, printable
from apvfio.model.host import MASK_NAMES
from apvfio.model.ids import format_list
from apvfio.store import masks_file
from apvfio.store.system import on_this_machine

if TYPE_CHECKING:
    from apvfio.kernel.seam import Files, System
    from apvfio.plan.mask_edit import MaskChange

_TIMEOUT = 600
"""Seconds; some distributions rebuild the initial RAM disk with every change."""
_EXIT_CONFLICT = 9
_SAID = 400


def find_chzdev(system: System) -> str | None:
    """The chzdev of this machine; None on a host that is simulated or lies elsewhere."""
    return programs.find("chzdev") if on_this_machine(system) else None


def store(command: str, files: Files, change: MaskChange) -> None:
    """Have ``command`` store the masks and see that it did; ConflictError or ApvfioError with its words."""
    named = zip(MASK_NAMES, change.to_store)
    # chzdev's grammar has no empty list.
    words = [f"{name}={format_list(ids) or '-0-255'}" for name, ids in named if ids is not None]
    words += [word for name in change.to_remove for word in ("--remove", name)]
    # Absolute values: chzdev applies relative ones to the active masks where none are stored.
    _run([command, "--type", "ap", "--persistent", "--yes", *words])
    if masks_file.load(files) != change.stored:
        raise ApvfioError(
            f"chzdev reported success, but /{persistent_masks.RULE} does not have the new masks.",
            remedy=f"See the file, and the output of '{' '.join(['chzdev --type ap -p', *words])}'.",
        )


def _run(words: list[str]) -> None:
    try:
        done = programs.run(words, timeout=_TIMEOUT)
    except programs.ProgramError as error:
        raise ApvfioError(f"chzdev could not be run: {error}.", remedy="Run it by hand.") from None
    if done.returncode:
        said = printable(" ".join(done.stderr.decode("utf-8", "replace").split()), _SAID)
        kind = ConflictError if done.returncode == _EXIT_CONFLICT else ApvfioError
        raise kind(
            f"chzdev could not store the masks (exit code {done.returncode}): {said}.",
            remedy="See what it says.",
        )

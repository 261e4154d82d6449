# SPDX-License-Identifier: Apache-2.0
"""apvfio run by a user who can read neither the checkout nor its interpreter, as where both are in /root."""

from __future__ import annotations

import shutil
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
NOBODY = 65534
_SHIPPED = ("apvfio", "mdev", "cockpit", "hooks", "man")


def readable_copy(directory: Path) -> tuple[list[str], dict[str, str]]:
    """Copy apvfio into ``directory``, which anybody can enter; the command and its environment."""
    for name in _SHIPPED:
        shutil.copytree(CHECKOUT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return ["/usr/bin/python3", "-m", "apvfio"], {"PYTHONPATH": str(directory)}


def as_nobody(directory: Path, *words: str) -> list[str]:
    """Return the command with which root runs apvfio as nobody, from a copy in ``directory``."""
    command, environment = readable_copy(directory)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*become, "env", *(f"{name}={value}" for name, value in environment.items()), *command, *words]

# SPDX-License-Identifier: Apache-2.0
"""``virsh start`` with the hook and without it, on two private libvirtds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.install.installed_files import script
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from benchmarks.goals import measured
from benchmarks.measure import side_by_side
from benchmarks.plain_host import PACKAGES, PYTHON
from lab.guest import guest_xml
from lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.goals import Goal

_MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
_GUESTS = {
    "plain": ("guest without annotation", guest_xml("plain")),
    "db1": ("annotated guest", guest_xml("db1", Matrix(IdSet([0]), IdSet([1, 4])), _MDEV)),
}


def goals(rounds: int) -> Iterator[Goal]:
    """Both kinds of guests with the hook; without it only the one that can start."""
    with Lab(script("hooks/qemu", PYTHON, packages=PACKAGES)) as ours, Lab() as without:
        for lab in (ours, without):
            for name, (_, xml) in _GUESTS.items():
                _well(lab.define(xml).returncode == 0, f"guest {name} cannot be defined")
        for name, (what, _) in _GUESTS.items():
            pair = side_by_side(
                lambda name=name: _start(ours, name),  # type: ignore[misc]
                lambda: _start(without, "plain"),
                rounds,
            )
            yield measured(f"virsh start --paused, {what}", "one without annotation, no hook", pair)


def _start(lab: Lab, name: str) -> float:
    begin = time.perf_counter()
    done = lab.virsh("start", "--paused", name)
    seconds = time.perf_counter() - begin
    ended = lab.virsh("destroy", name)
    _well(not done.returncode and not ended.returncode, done.stderr + ended.stderr)
    return seconds


def _well(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)

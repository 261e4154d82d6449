# SPDX-License-Identifier: Apache-2.0
"""``virsh start`` with the hook and without it, on a private libvirtd."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from apvfio.assets import script
from apvfio.lab.guest import guest_xml
from apvfio.lab.lab import Lab
from apvfio.mask import IdSet
from apvfio.matrix import Matrix
from benchmarks.goals import Goal, measured
from benchmarks.measure import side_by_side
from benchmarks.mounted import PACKAGES, PYTHON

if TYPE_CHECKING:
    from collections.abc import Iterator

_MDEV = "0a0b0c0d-1111-4111-8111-111111111111"
_NONE = "#!/bin/sh\nexit 0\n"
"""libvirt looks for hooks once: without ours it runs one that does nothing."""


def goals(rounds: int) -> Iterator[Goal]:
    """A guest without annotation with and without the hook; an annotated one beside that."""
    hook = script("hooks/qemu", PYTHON, packages=PACKAGES)
    wish = Matrix(IdSet([0]), IdSet([1, 4]))
    with Lab(hook) as lab:
        for name, xml in (("plain", guest_xml("plain")), ("db1", guest_xml("db1", wish, _MDEV))):
            if lab.define(xml).returncode:
                raise RuntimeError(f"guest {name} cannot be defined")

        def start(name: str, text: str) -> float:
            lab.install_hook(text)
            begin = time.perf_counter()
            done = lab.virsh("start", "--paused", name)
            seconds = time.perf_counter() - begin
            ended = lab.virsh("destroy", name)
            if done.returncode or ended.returncode:
                raise RuntimeError(done.stderr + ended.stderr)
            return seconds

        for name, what in (("plain", "guest without annotation"), ("db1", "annotated guest")):
            pair = side_by_side(
                lambda name=name: start(name, hook),  # type: ignore[misc]
                lambda: start("plain", _NONE),
                max(rounds // 2, 3),
            )
            yield measured(f"virsh start --paused, {what}", "a guest without annotation, no hook", pair)

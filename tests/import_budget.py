# SPDX-License-Identifier: Apache-2.0
"""What a guest's start may load: each module costs every start, and some cost milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 67
"""Modules and packages of apvfio; a new one is worth a thought."""
SLOW = {
    "argparse", "ast", "collections", "contextlib", "dataclasses", "datetime", "enum", "functools", "glob",
    "importlib.util", "inspect", "json", "libvirt", "logging", "lxml", "lxml.etree", "pathlib", "random",
    "re", "sh", "shutil", "site", "socket", "struct", "subprocess", "tempfile", "threading", "tomllib",
    "typing", "urllib", "uuid", "xml", "zipfile",
}  # fmt: skip
"""Each of these takes milliseconds to load, itself or with what it brings along."""
OTHERS = {
    "apvfio.model.cards", "apvfio.model.criteria", "apvfio.model.criteria_texts", "apvfio.engine.rollback",
    "apvfio.domain.annotated_criteria", "apvfio.engine.lost_overrides",
    "apvfio.store.definitions", "apvfio.events.queue_history", "apvfio.libvirt.guests",
    "apvfio.kernel.lszcrypt", "apvfio.engine.master_keys", "apvfio.store.mkvps_file",
    "apvfio.model.master_keys", "apvfio.plan.secure_execution",
    "apvfio.plan.selection", "apvfio.plan.drift", "apvfio.plan.key_warnings", "apvfio.plan.joint_search",
    "apvfio.plan.joint", "apvfio.sim", "apvfio.domain.xml_tree", "apvfio.mdev.definitions",
}  # fmt: skip
"""What only some guests need, or only commands."""


def require_few(modules: Iterable[str], work: str = "apvfio.engine.start") -> None:
    """That these are as few as they should be, none of them slow, and what does the ``work`` is there."""
    loaded = set(modules)
    assert not loaded & SLOW
    assert not loaded & OTHERS
    assert "apvfio.engine.carry_out" in loaded
    assert len([name for name in loaded if name.partition(".")[0] == "apvfio"]) <= MOST

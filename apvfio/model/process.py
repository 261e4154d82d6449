# SPDX-License-Identifier: Apache-2.0
"""Processes of the host."""

from __future__ import annotations

from apvfio.model.typed import NamedTuple


class Process(NamedTuple):
    """A process, distinguished from a later one of the same pid."""

    pid: int
    started: int
    """In clock ticks since the boot (proc(5), ``starttime``)."""


UNKNOWN = Process(0, 0)
"""A process that must be there, of which no more is known."""

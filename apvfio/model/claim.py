# SPDX-License-Identifier: Apache-2.0
"""Queues freed for a device that mdevctl is about to make.

Between the freeing and the making there is nothing on the host that shows who wants the
queues. The promise keeps them free for as long as the mdevctl lives to which it was made.
"""

from __future__ import annotations

from apvfio.mdev.devices import is_uuid
from apvfio.model.ids import NO_IDS, format_list, parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.process import Process
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXTS = ("mdev", "way", "adapters", "domains", "control_domains")


class Claim(NamedTuple):
    """What one device to come will hold."""

    mdev: str
    """The device's uuid."""
    matrix: Matrix
    way: str
    """What keeps its queues from the host, as with a lease."""
    process: Process
    """The mdevctl that makes the device."""


def claim_json(promise: Claim) -> dict[str, object]:
    """A promise as the ledger and ``status --json`` write it; lists in chzdev's notation."""
    return {
        "mdev": promise.mdev,
        "adapters": format_list(promise.matrix.adapters),
        "domains": format_list(promise.matrix.domains),
        "control_domains": format_list(promise.matrix.control_domains),
        "way": promise.way,
        "pid": promise.process.pid,
        "started": promise.process.started,
    }


def claim_from(item: Any) -> Claim:
    """The promise that the ledger holds as ``item``; ValueError or RequestError if it is none."""
    if type(item) is not dict or any(type(item.get(key)) is not str for key in _TEXTS):
        raise ValueError("a promise lacks something")
    if not is_uuid(item["mdev"]):
        raise ValueError("a promise is for no mdev")
    if any(type(item.get(key)) is not int for key in ("pid", "started")):
        raise ValueError("a promise is made to no process")
    matrix = Matrix(*(parse_list(item[key], key) if item[key] else NO_IDS for key in _TEXTS[2:]))
    return Claim(item["mdev"], matrix, item["way"], Process(item["pid"], item["started"]))

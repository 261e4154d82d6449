# SPDX-License-Identifier: Apache-2.0
"""Claims: queues kept free for a mediated device that mdevctl is about to create.

Between the freeing and the making there is nothing on the host that shows who wants the
queues. The claim keeps them free for as long as that mdevctl process lives.
"""

from __future__ import annotations

from apvfio.mdev.devices import is_uuid
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.model.process import Process
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TEXTS = ("mdev", "freed_by", "adapters", "domains", "control_domains")


class Claim(NamedTuple):
    """The queues kept free for one mediated device."""

    mdev: str
    """The device's uuid."""
    matrix: Matrix
    freed_by: str
    """What keeps its queues from the host, as with a lease."""
    process: Process
    """The mdevctl that makes the device."""


def claim_json(claim: Claim) -> dict[str, object]:
    """A claim as the ledger has it; lists in chzdev's notation."""
    return {
        "mdev": claim.mdev,
        **claim.matrix.lists(),
        "freed_by": claim.freed_by,
        "pid": claim.process.pid,
        "started": claim.process.started,
    }


def claim_from(item: Any) -> Claim:
    """The claim that the ledger holds as ``item``; ValueError or RequestError if it is none."""
    if type(item) is not dict or any(type(item.get(key)) is not str for key in _TEXTS):
        raise ValueError("a claim lacks something")
    if not is_uuid(item["mdev"]):
        raise ValueError("a claim is for no mdev")
    if any(type(item.get(key)) is not int for key in ("pid", "started")):
        raise ValueError("a claim is made by no process")
    matrix = Matrix(*(parse_list(item[key], key) if item[key] else NO_IDS for key in _TEXTS[2:]))
    return Claim(item["mdev"], matrix, item["freed_by"], Process(item["pid"], item["started"]))

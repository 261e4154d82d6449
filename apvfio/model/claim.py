# SPDX-License-Identifier: Apache-2.0
"""Claims: queues kept free for a mediated device that mdevctl is about to create.

Between freeing the queues and making the device nothing on the host shows who wants them.
The claim keeps them free for as long as that mdevctl process lives.
"""

from __future__ import annotations

from apvfio.model.matrix import Matrix
from apvfio.model.process import Process
from apvfio.model.typed import NamedTuple


class Claim(NamedTuple):
    """The queues kept free for one mediated device."""

    mdev: str
    """The device's uuid."""
    matrix: Matrix
    freed_by: str
    """What keeps its queues from the host, as with a lease."""
    process: Process
    """The mdevctl that makes the device."""

# SPDX-License-Identifier: Apache-2.0
"""A guest's request."""

from __future__ import annotations

from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from apvfio.model.criteria import Criteria
    from apvfio.model.matrix import Matrix


class Request(NamedTuple):
    """What one guest requests: the queues, and the mediated device that shall carry them."""

    guest: str
    """The guest's name: untrusted text, for messages only."""
    guest_uuid: str
    mdev: str
    """The uuid of the mediated device, lower case."""
    matrix: Matrix
    """Empty as long as nothing was chosen for a ``criteria``."""
    free_by: str = ""
    """``adapters`` or ``domains`` where the guest names the option to free its queues by, else ''."""
    criteria: Criteria | None = None
    """The properties of the queues, if the guest does not request ids."""
    source: str = "its annotation"
    """Where it was read, for messages."""
    secure: bool = False
    """Whether the guest is a Secure Execution guest (`apvfio.plan.secure_execution`)."""

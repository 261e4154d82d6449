# SPDX-License-Identifier: Apache-2.0
"""A step: one write to the kernel, and its purpose."""

from __future__ import annotations

from apvfio.model.typed import NamedTuple

REMOVE = "remove"
RETURN = "return"
FREE = "free"
UNBIND = "unbind"
PROBE = "probe"
OFFLINE = "offline"
CREATE = "create"
ASSIGN = "assign"


class Step(NamedTuple):
    """One write to the kernel; ``path`` is below /sys."""

    op: str
    path: str
    value: str

    @property
    def attribute(self) -> str:
        """The name of the attribute written."""
        return self.path.rpartition("/")[2]

    def as_json(self) -> dict[str, str]:
        """The step as ``plan --json`` prints it."""
        return {"op": self.op, "path": f"/sys/{self.path}", "value": self.value}

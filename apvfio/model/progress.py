# SPDX-License-Identifier: Apache-2.0
"""Progress callbacks: report what an operation is waiting for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str], None]
    """Called with what is waited for from now on, as a clause; with '' when a wait is over."""

FOR_THE_LOCK = "waiting for another apvfio, or a tool of s390-tools, to end"


def no_progress(_what: str) -> None:
    """Tell nobody."""

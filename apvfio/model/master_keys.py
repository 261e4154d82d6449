# SPDX-License-Identifier: Apache-2.0
"""The master keys of a queue as they were read, by their verification patterns (MKVPs), and when that was.

The kernel shows them only while the host has the queue. A pattern that is remembered proves nothing: a key
ceremony may have changed the key since.
"""

from __future__ import annotations

from apvfio.model.typed import NamedTuple

READ = "read"
REMEMBERED = "remembered"
_SECONDS = len("2026-01-31T11:00:00")


class SeenKeys(NamedTuple):
    """What one queue had."""

    mkvps: tuple[str, ...]
    """The patterns of the valid current master keys, lower case, without 0x; none if it had no key."""
    seen: str
    """When they were read, as every ``--json`` writes times."""
    fresh: bool = False
    """Whether they were read just now, and so are what the queue has."""

    @property
    def source(self) -> str:
        """`READ` or `REMEMBERED`."""
        return READ if self.fresh else REMEMBERED

    @property
    def when(self) -> str:
        """When they were read, for people."""
        return f"{self.seen[:_SECONDS]}Z"

    def as_json(self) -> dict[str, object]:
        """Return them as every ``--json`` prints them."""
        return {"mkvps": list(self.mkvps), "seen": self.seen, "source": self.source}

    def __str__(self) -> str:
        keys = " ".join(f"0x{key}" for key in self.mkvps) or "no valid key"
        return f"{keys}, {'read now' if self.fresh else f'remembered since {self.when}'}"

# SPDX-License-Identifier: Apache-2.0
"""The master keys of a queue by their verification patterns (MKVPs), with the time when they were read.

The kernel shows the patterns only while the host has the queue. A remembered pattern proves nothing: a key
ceremony may have changed the key since.
"""

from __future__ import annotations

from apvfio.model.typed import NamedTuple

READ = "read"
REMEMBERED = "remembered"
_SECONDS = len("2026-01-31T11:00:00")


class MasterKey(NamedTuple):
    """A current master key, or one that is required."""

    register: str
    """``aes``, ``apka`` or ``asym`` in mode cca, ``wk`` in mode ep11."""
    mkvp: str
    """Its verification pattern in lower-case hexadecimal digits, without 0x."""

    def __str__(self) -> str:
        return f"{self.register} 0x{self.mkvp}"


class SeenKeys(NamedTuple):
    """What one queue had."""

    keys: tuple[MasterKey, ...]
    """The valid current master keys; none if it had no key."""
    seen: str
    """When they were read, as every ``--json`` writes times."""
    fresh: bool = False
    """Whether they were read just now, and are therefore certain."""

    @property
    def mkvps(self) -> tuple[str, ...]:
        """The patterns of the keys."""
        return tuple([key.mkvp for key in self.keys])

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
        mkvps = {key.register: key.mkvp for key in self.keys}
        return {"mkvps": mkvps, "seen": self.seen, "source": self.source}

    def __str__(self) -> str:
        keys = " ".join(map(str, self.keys)) or "no valid key"
        return f"{keys}, {'read now' if self.fresh else f'remembered since {self.when}'}"

# SPDX-License-Identifier: Apache-2.0
"""``--if-state``: a command runs only on the state on which its plan was made.

The state is a fingerprint of all input from which the commands that change a host plan. A dry run prints it.
A command with ``--if-state`` refuses to change anything if the state has changed since.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apvfio.kernel.snapshot import read_host
from apvfio.model import persistent_masks
from apvfio.model.errors import ConflictError
from apvfio.model.policy import DRAINS
from apvfio.store import ledger_file
from apvfio.store.policy_file import POLICY, parse_policy
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.kernel.seam import System
    from apvfio.libvirt.guests import Guest
    from apvfio.model.ledger import Ledger


def state_of(system: System | None, guest: Guest | None = None) -> str:
    """Return the state of the host, of a guest and its definition, or of both, as 64 hexadecimal digits."""
    parts: list[object] = []
    if system:
        parts += [read_host(system.sysfs), *_kept(ledger_file.load(system.files, system.boot_id))]
        policy = system.files.read(POLICY)
        parse_policy(policy)  # An error in it is the one to tell.
        parts += [policy, system.files.read(persistent_masks.RULE), system.files.read(DRAINS)]
    if guest:
        parts += [guest.uuid, guest.active, guest.saved, guest.xml()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def on_premise(system: System, expected: str | None, look: Callable[[System], str]) -> System:
    """Return ``system`` for a change that is made only if ``look`` finds the state ``expected``.

    ConflictError if it does not, at once, or later when the change has the lock. None expects nothing.
    """
    if expected is None:
        return system

    def require() -> None:
        if look(system) != expected:
            raise ConflictError(
                "the host or the guest has changed since the plan was made.",
                remedy="Nothing was done. Plan again, and check the new plan.",
            )

    require()
    # A simulated host is locked from the reading to the end of the change.
    if not isinstance(system, RealSystem):
        return system
    premised = _Premised(system.root, require)
    premised.sysfs = system.sysfs
    return premised


class _Premised(RealSystem):
    """This machine; the first time that its lock is taken, the state is compared with the required one."""

    def __init__(self, root: str, require: Callable[[], None]) -> None:
        super().__init__(root)
        self._require: Callable[[], None] | None = require

    @contextmanager
    def lock(self) -> Iterator[None]:
        """As `RealSystem.lock`; the error is that of the requirement."""
        with super().lock():
            # The steps from here on change the state themselves.
            require, self._require = self._require, None
            if require:
                require()
            yield


def _kept(ledger: Ledger) -> list[object]:
    """Return the parts of a ledger that matter to a plan: not what any command may remember of queues."""
    return [
        *(ledger.boot_id, ledger.mechanism, ledger.pending, sorted(ledger.overrides.items())),
        *(sorted(ledger.offline_queues), sorted(ledger.leases.items()), sorted(ledger.last_given.items())),
        sorted(ledger.claims.items()),
    ]

# SPDX-License-Identifier: Apache-2.0
"""The status of a host, read once from the ledger, the kernel and the processes.

Every command that describes a host shows this value, so that no two commands disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from apvfio.engine.differences import differences
from apvfio.engine.master_keys import remembered_keys
from apvfio.engine.state import State
from apvfio.kernel.queue_states import read_states
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import live_guest
from apvfio.model.errors import ApvfioError
from apvfio.model.ledger import ENDING
from apvfio.model.owners import owners
from apvfio.model.policy import Policy
from apvfio.model.queue_states import NO_STATES, QueueStates
from apvfio.plan.drift import drift_of_lease
from apvfio.plan.mechanism import mechanism_of
from apvfio.plan.pending_returns import pending_returns
from apvfio.store.drain_file import load_drains
from apvfio.store.ledger_file import load
from apvfio.store.policy_file import read_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apvfio.kernel.seam import System
    from apvfio.model.drain import Drain
    from apvfio.model.host import Host
    from apvfio.model.ledger import Lease, Ledger
    from apvfio.model.master_keys import SeenKeys
    from apvfio.model.matrix import Apqn
    from apvfio.model.owners import Owner
    from apvfio.plan.pending_returns import PendingReturn


class Status(NamedTuple):
    """A host's status."""

    host: Host
    ledger: Ledger
    policy: Policy
    owners: dict[Apqn, Owner]
    drift: list[str]
    running: frozenset[str] | None
    """The uuids of the guests that have a QEMU process; None where processes are unknown."""
    seen: QueueStates
    policy_error: ApvfioError | None
    """Why the policy cannot be used, None if it can; ``policy`` is an empty one then."""
    keys: Mapping[Apqn, SeenKeys] = {}
    """The master keys that are remembered."""
    drains: tuple[Drain, ...] = ()
    """Empty if their file cannot be understood, which is a `policy_error`."""

    @property
    def mechanism(self) -> str:
        """The kernel's mechanism in use."""
        return mechanism_of(self.host, self.ledger, self.policy)

    @property
    def scene(self) -> State:
        """What planning needs."""
        return State(self.host, self.ledger, self.policy)

    @property
    def pending(self) -> list[PendingReturn]:
        """What apvfio took from the host and has not returned, with who holds it."""
        return pending_returns(self.host, self.ledger)

    def lease(self, guest_uuid: str) -> Lease | None:
        """The lease of the guest, None if it has none that is not about to end."""
        leases = self.ledger.of_guest(guest_uuid)
        return next((lease for lease in leases if lease.state != ENDING), None)

    def faults(self, lease: Lease) -> list[str]:
        """What keeps the guest of ``lease`` from its queues, in the sentences of `drift`."""
        return list(drift_of_lease(self.host, lease))


def read_status(system: System, *, states: bool = True) -> Status:
    """Read the status without the lock, so that neither a start nor the reader waits for the other.

    With an invalid policy, the status is complete and has the policy's error. Without ``states``, those of
    the cards and queues are left out, each of which costs a read.
    """
    host, ledger = read_host(system.sysfs), load(system.files, system.boot_id)
    policy, wrong = Policy(), None
    try:
        policy = read_policy(system.files)
    except ApvfioError as error:
        wrong = error
    drains: tuple[Drain, ...] = ()
    try:
        drains = tuple(load_drains(system.files))
    except ApvfioError as error:
        wrong = wrong or error
    running = system.running_guests()
    return Status(
        host,
        ledger,
        policy,
        owners(host, ledger),
        [*differences(system, host, ledger), *live_guest.differences(system)],
        None if running is None else frozenset(running),
        read_states(system.sysfs, host) if states else NO_STATES,
        wrong,
        remembered_keys(system) if states else {},
        drains,
    )

# SPDX-License-Identifier: Apache-2.0
"""Who holds which queues, and what apvfio has yet to return to the host.

The ledger says how the host should be. It is written before the first step of a change. After a crash at any
point, the next call can therefore finish or undo the work.
"""

from __future__ import annotations

from apvfio.model.host import MaskBits
from apvfio.model.ids import union
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.process import Process
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

BY_ADAPTERS = "adapters"
BY_DOMAINS = "domains"
BY_OVERRIDES = "overrides"

STARTING = "starting"
"""The ledger has it, the host perhaps not yet. Seen by another process it belongs to a hook that died."""
HELD = "held"
CHANGING = "changing"
"""The guest runs and its device gets, or gets back, ``matrix``; what `Lease.before` has stays the guest's."""
ENDING = "ending"

FREED_BY = (BY_ADAPTERS, BY_DOMAINS, BY_OVERRIDES)
STATES = (STARTING, HELD, CHANGING, ENDING)


class LeaseBefore(NamedTuple):
    """What a lease was before a change that is under way."""

    matrix: Matrix
    freed_by: str
    changer: Process
    """The process that changes it: if that has ended, the change is undone."""


class LiveChange(NamedTuple):
    """A change of a running guest that goes through libvirt, from its first write to its last."""

    changer: Process
    """Who makes it: if that process has ended, the next reconcile completes the change or undoes it."""
    annotation: str
    """The annotation that the running guest has as long as it has this lease and its device, '' for none."""


class Lease(NamedTuple):
    """One guest's hold on its queues."""

    guest: str
    uuid: str
    """The guest's uuid, which identifies it: names change."""
    mdev: str
    matrix: Matrix
    freed_by: str
    """What keeps its queues from the host: the masks, `BY_ADAPTERS` or `BY_DOMAINS`, or `BY_OVERRIDES`."""
    state: str
    created: bool
    """Whether apvfio made the mdev, and so removes it."""
    since: int = 0
    """When the guest got its queues, in seconds since the boot."""
    before: LeaseBefore | None = None
    """The state to which the lease returns if the present live change is rolled back."""
    expected: bool = False
    """Whether a migration brings the guest, or may bring it back: its device waits for it here."""
    live_change: LiveChange | None = None
    """The live change that is under way, None if there is none."""
    secure: bool = False
    """Whether the guest is a Secure Execution guest, which loses more than others with its queues."""
    kernel_move: Process | None = None
    """The process that sees to the guest's migration by the kernel, to here or from here."""

    def rolled_back(self) -> Lease:
        """The lease on its way back to what it was `before`."""
        assert self.before
        return self._replace(matrix=self.before.matrix, freed_by=self.before.freed_by, before=None)

    def settled(self, device: Matrix | None) -> Lease:
        """Return the lease after a migration by the kernel; ``device`` is its device's matrix, if any."""
        matrix = self.matrix if device is None or device.empty else device
        return self._replace(kernel_move=None, matrix=matrix)

    def committed(self) -> Lease:
        """The lease with its change for good, or back from one."""
        return self._replace(state=HELD, before=None)


class Claim(NamedTuple):
    """Queues kept free for a mediated device that mdevctl is about to create.

    After the queues are freed and before the device is created, nothing on the host shows who needs them. The
    claim keeps them free for as long as that mdevctl process lives.
    """

    mdev: str
    """The device's uuid."""
    matrix: Matrix
    freed_by: str
    """What keeps its queues from the host, as with a lease."""
    process: Process
    """The mdevctl that makes the device."""


class Ledger(NamedTuple):
    """All leases, by the uuid of their mdev, and the pending returns; valid for one boot."""

    boot_id: str
    leases: dict[str, Lease]
    pending: MaskBits = MaskBits()
    """The mask bits that apvfio cleared and the host shall have back."""
    overrides: Mapping[Apqn, str] = {}
    """The queues whose ``driver_override`` apvfio has set, with the former value."""
    offline_queues: frozenset[Apqn] = frozenset()
    """The queues that were offline when they were taken: a driver that gets a queue puts it online."""
    mechanism: str = ""
    """The mechanism chosen for this boot with ``apvfio mechanism``, '' if none was."""
    last_given: Mapping[str, Matrix] = {}
    """The last queues in this boot of each guest with criteria, by its uuid: it gets them again."""
    last_holder: Mapping[Apqn, str] = {}
    """The guest, by its name, that had each queue last in this boot."""
    claims: Mapping[str, Claim] = {}
    """The claims for devices that mdevctl is about to create, by uuid."""
    cleared_by_admin: MaskBits = MaskBits()
    """The mask bits that an administrator cleared with ``apvfio masks`` in this boot."""
    cleared_by_others: MaskBits = MaskBits()
    """The mask bits that another program cleared, as far as the audit log has them."""

    def of_guest(self, uuid: str) -> list[Lease]:
        """The leases of the guest ``uuid``; more than one only while an older one is ending."""
        return [lease for lease in self.leases.values() if lease.uuid == uuid]

    def with_lease(self, lease: Lease) -> Ledger:
        """The ledger with ``lease`` added, or put in place of an older one of the same mdev."""
        return self.with_leases([lease])

    def with_leases(self, leases: Iterable[Lease]) -> Ledger:
        """The ledger with all ``leases``, as `with_lease` adds one; the other leases are copied only once."""
        new = {lease.mdev: lease for lease in leases}
        return self._replace(leases={**self.leases, **new}) if new else self

    def without_leases(self, *mdevs: str) -> Ledger:
        """The ledger without the leases of those mdevs."""
        gone = frozenset(mdevs)
        return self._replace(leases={k: v for k, v in self.leases.items() if k not in gone})

    def with_claim(self, claim: Claim) -> Ledger:
        """The ledger with ``claim``, in place of an older one for the same device."""
        return self._replace(claims={**self.claims, claim.mdev: claim})

    def without_claims(self, *mdevs: str) -> Ledger:
        """The ledger without the claims for those devices."""
        gone = frozenset(mdevs)
        return self._replace(claims={k: v for k, v in self.claims.items() if k not in gone})

    def without_overrides(self, queues: Collection[Apqn]) -> Ledger:
        """The ledger in which the overrides of ``queues`` are not pending."""
        left = {queue: before for queue, before in self.overrides.items() if queue not in queues}
        return self._replace(overrides=left)

    def with_ending(self, guest_uuid: str) -> Ledger:
        """The ledger in which the leases of the guest ``guest_uuid`` come to their end."""
        return self.with_leases(lease._replace(state=ENDING) for lease in self.of_guest(guest_uuid))

    def mdevs_to_remove(self) -> set[str]:
        """The mdevs that go when the ending leases end."""
        return {lease.mdev for lease in self.leases.values() if lease.state == ENDING and lease.created}

    def needed_bits(self) -> MaskBits:
        """The mask bits that claims and the leases not about to end keep clear."""
        holding = self.leases_and_claims()
        return MaskBits(
            union(held.matrix.adapters for held in holding if held.freed_by == BY_ADAPTERS),
            union(held.matrix.domains for held in holding if held.freed_by == BY_DOMAINS),
        )

    def needed_queues(self) -> set[Apqn]:
        """Return the queues whose overrides are needed by claims and by leases that are not ending."""
        by_overrides = [held.matrix for held in self.leases_and_claims() if held.freed_by == BY_OVERRIDES]
        return {queue for matrix in by_overrides for queue in matrix.queues()}

    def with_last_given(self, guest_uuid: str, matrix: Matrix) -> Ledger:
        """The ledger in which the guest ``guest_uuid`` was last given ``matrix``."""
        return self._replace(
            last_given={**self.last_given, guest_uuid: Matrix(matrix.adapters, matrix.domains)}
        )

    def with_holder(self, lease: Lease) -> Ledger:
        """The ledger in which the guest of ``lease`` has its queues, and so had them last."""
        return self._replace(
            last_holder={**self.last_holder, **dict.fromkeys(lease.matrix.queues(), lease.guest)}
        )

    def active_leases(self) -> list[Lease]:
        """The leases that are not about to end."""
        return [lease for lease in self.leases.values() if lease.state != ENDING]

    def moving(self) -> list[Lease]:
        """The leases of guests that the kernel migrates, for which masks and overrides are held still."""
        return [lease for lease in self.leases.values() if lease.kernel_move and lease.state != ENDING]

    def leases_and_before(self) -> list[Lease]:
        """Return the leases that are not ending, and the former states of those that are being changed."""
        live = self.active_leases()
        before = (lease.rolled_back() for lease in live if lease.before)
        return [*live, *before]

    def leases_and_claims(self) -> list[Lease | Claim]:
        """Return all leases and claims for which queues are kept from the host."""
        return [*self.leases_and_before(), *self.claims.values()]

    def as_committed(self) -> Ledger:
        """Return the ledger as if all live changes were committed."""
        if not any(lease.before for lease in self.leases.values()):
            return self
        return self._replace(leases={k: v._replace(before=None) for k, v in self.leases.items()})

# SPDX-License-Identifier: Apache-2.0
"""One frozen snapshot of a host: its masks, its queues and their drivers, its AP mdevs; and what it uses."""

from __future__ import annotations

from apvfio.mdev.devices import MdevType
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.typed import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BUS = "bus/ap"
AP_MDEVS = MdevType("devices/vfio_ap/matrix", "vfio_ap-passthrough")
VFIO_DRIVER = "vfio_ap"
HOST_DRIVER = "cex4queue"
UNBOUND = ""

MASK_NAMES = ("apmask", "aqmask")
CONTROL_DOMAINS = "ap_control_domain_mask"
MASKS = "masks"
OVERRIDES = "overrides"


class MaskBits(NamedTuple):
    """Some bits of apmask and aqmask, or all that a host has set."""

    apmask: IdSet = NO_IDS
    aqmask: IdSet = NO_IDS

    def __or__(self, other: object) -> MaskBits:
        assert isinstance(other, MaskBits)
        return MaskBits(self.apmask | other.apmask, self.aqmask | other.aqmask)

    def __sub__(self, other: MaskBits) -> MaskBits:
        return MaskBits(self.apmask - other.apmask, self.aqmask - other.aqmask)

    def __and__(self, other: MaskBits) -> MaskBits:
        return MaskBits(self.apmask & other.apmask, self.aqmask & other.aqmask)

    def __bool__(self) -> bool:
        return bool(self.apmask) or bool(self.aqmask)

    @property
    def size(self) -> int:
        """How many bits these are."""
        return len(self.apmask) + len(self.aqmask)

    def named(self) -> list[tuple[str, IdSet]]:
        """The masks of which there are bits, by name."""
        return [(name, ids) for name, ids in zip(MASK_NAMES, self) if ids]

    def give_host(self, queue: Apqn) -> bool:
        """Whether these are the bits of masks that leave ``queue`` to the host's drivers: both are set."""
        return queue.adapter in self.apmask and queue.domain in self.aqmask

    def touch(self, queue: Apqn) -> bool:
        """Whether one of the bits is of the adapter or of the domain of ``queue``."""
        return queue.adapter in self.apmask or queue.domain in self.aqmask


ALL_BITS = MaskBits(ALL_IDS, ALL_IDS)


class Abilities(NamedTuple):
    """What this kernel can do, found by the presence of files, never by its version."""

    override: bool
    """Queues have ``driver_override`` (7.x)."""
    ap_config: bool
    """A mediated device takes its whole matrix in one write (6.12 on)."""
    strict_return: bool
    """A mask bit cannot be set while any mdev holds the id, whatever the other mask says (7.x)."""


class Host(NamedTuple):
    """A host at one instant. ``drivers`` has every queue, '' standing for an unbound one."""

    apmask: IdSet
    aqmask: IdSet
    drivers: dict[Apqn, str]
    overrides: dict[Apqn, str]
    mdevs: dict[str, Matrix]
    abilities: Abilities
    vfio_ap: bool
    max_adapter: int
    max_domain: int
    control_domains: IdSet | None
    """The domains that this host controls, and so the most that a guest can; None if it does not say."""

    @property
    def masks(self) -> MaskBits:
        """The bits that are set in the masks."""
        return MaskBits(self.apmask, self.aqmask)

    @property
    def mechanism(self) -> str | None:
        """Which of the kernel's two exclusive mechanisms is in use here, None if both are open.

        A mask that is not full shuts the overrides (que:driver_override_store), an override shuts
        the masks (bus:apmask_store).
        """
        if self.overrides:
            return OVERRIDES
        full = self.apmask == ALL_IDS == self.aqmask
        return None if full and self.abilities.override else MASKS

    @property
    def adapters(self) -> IdSet:
        """The adapters that have a queue."""
        return IdSet(queue.adapter for queue in self.drivers)

    @property
    def domains(self) -> IdSet:
        """The usage domains that have a queue."""
        return IdSet(queue.domain for queue in self.drivers)

    def given_on(self, adapters: IdSet, domains: IdSet) -> list[Apqn]:
        """The queues on one of ``adapters`` or ``domains`` that the masks give to the host, in order.

        A large host is not searched whole.
        """
        rows = Matrix(adapters & self.apmask, self.aqmask)
        columns = Matrix(self.apmask, domains & self.aqmask)
        if len(self.drivers) > sum(len(part.adapters) * len(part.domains) for part in (rows, columns)):
            there = {*rows.queues(), *columns.queues()}
            return sorted(queue for queue in there if queue in self.drivers)
        return sorted(queue for queue in self.drivers if rows.holds(queue) or columns.holds(queue))

    def concerned(self, matrix: Matrix) -> list[Apqn]:
        """The host's queues that freeing ``matrix`` could take, whichever option is chosen."""
        return [
            queue
            for queue, driver in self.drivers.items()
            if driver == HOST_DRIVER and (queue.adapter in matrix.adapters or queue.domain in matrix.domains)
        ]

    def masks_give_host(self, queue: Apqn) -> bool:
        """Whether the masks leave ``queue`` to the host's drivers: both bits set."""
        return queue.adapter in self.apmask and queue.domain in self.aqmask


class Usage(NamedTuple):
    """How a host uses its own queues, as far as a plan has to respect it; as it stands, nothing is known."""

    usable: Mapping[Apqn, str] = {}
    """The host's queues that are online, and their mode: ``cca``, ``ep11`` or ``accel``."""
    working: frozenset[Apqn] = frozenset()
    """The queues with requests under way."""
    keys: Mapping[Apqn, str] = {}
    """The queues bound to a key of zkey's repository, and the key's name."""
    nodes: Mapping[Apqn, str] = {}
    """The queues open to a custom zcrypt device node, and the node's name."""
    default_domain: frozenset[Apqn] = frozenset()
    """All queues that the host's drivers have of its default domain, if a plan concerns one of them."""

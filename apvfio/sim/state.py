# SPDX-License-Identifier: Apache-2.0
"""Everything a simulated kernel remembers. Plain data: the rules are in `apvfio.sim.bus` and beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from apvfio.mdev.devices import is_uuid
from apvfio.model.errors import RequestError
from apvfio.model.ids import ALL_IDS, IDS, MAX_ID, NO_IDS, IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim import json_fields
from apvfio.sim.profile import profile_named

MODES = ("accel", "cca", "ep11")
"""The modes of a Crypto Express adapter."""
MODULES: dict[str, tuple[str, ...]] = {
    "ap": (),
    "zcrypt": ("ap",),
    "zcrypt_cex4": ("ap", "zcrypt"),
    "vfio": (),
    "mdev": (),
    "vfio_ap": ("ap", "vfio", "mdev"),
}
"""Every module, and the modules that it needs."""
_NOTHING = Matrix()


@dataclass
class Hardware:
    """What the machine gives this host; the bus learns of changes when it scans."""

    adapters: dict[int, str]
    """Their modes."""
    domains: IdSet
    control_domains: IdSet
    standby: IdSet = NO_IDS
    """Adapters that are deconfigured."""
    max_adapter: int = MAX_ID
    max_domain: int = MAX_ID
    features: str = "APSC APXA QACT RC8A"

    def config(self) -> Matrix:
        """The answer to PQAP(QCI)."""
        return Matrix(IdSet(self.adapters), self.domains, self.control_domains)

    def check(self) -> None:
        """RequestError unless there can be such a machine."""
        for adapter, mode in self.adapters.items():
            if mode not in MODES:
                sentence = f"adapter {adapter:#04x} has the mode {mode[:40]!r}."
                raise RequestError(sentence, remedy=f"Choose {', '.join(MODES)}.")
        for what, ids, limit in (
            ("id", (self.max_adapter, self.max_domain), MAX_ID),
            ("adapter", (*self.adapters, *self.standby), self.max_adapter),
            ("domain", (*self.domains, *self.control_domains), self.max_domain),
        ):
            for number in ids:
                if not 0 <= number <= limit:
                    sentence = f"{what} {number} goes beyond the largest possible id, {limit}."
                    raise RequestError(sentence, remedy="Choose a smaller one.")


@dataclass
class SimCard:
    """A card device."""

    mode: str
    driver: str = ""
    config: bool = True
    online: bool = True
    """The cex4card driver's own flag."""
    requests: int = 0
    hwtype: int = 14
    """AP_DEVICE_TYPE_CEX8; a dumped host's card may be older."""


@dataclass
class Queue:
    """A queue device."""

    driver: str = ""
    override: str = ""
    config: bool = True
    online: bool = True
    """The cex4queue driver's own flag."""
    initiated: bool = False
    """Its device state has left UNINITIATED (que:_ap_queue_init_state)."""
    resetting: bool = False
    """The bus has requested a reset that has not happened yet (que:ap_sm_reset)."""
    interrupts: bool = False
    unusable: bool = False
    """Its last reset by vfio_ap failed (vops:_queue_passable)."""
    requests: int = 0
    mkvps: str = ""
    """What ``mkvps`` shows, without the last newline; '' where no queue answers."""


@dataclass
class Mdev:
    """A mediated device."""

    group: int
    """Of its iommu group and of its vfio device; the lowest free one."""
    matrix: Matrix = _NOTHING
    guest_matrix: Matrix = _NOTHING
    """What a guest has or would have: shadow_apcb."""
    vm: str = ""
    """The virtual machine that has it open, '' if none has."""
    opener: int = 0
    """The pid of the process that has it open, 0 if none has or processes are unknown."""
    bound: bool = True
    """To its driver, vfio_ap_mdev."""

    @property
    def open(self) -> bool:
        """Whether a virtual machine, or any process, has the device open."""
        return bool(self.vm or self.opener)


@dataclass
class State:
    """A host's kernel."""

    profile: str
    hardware: Hardware
    # Read at run time, where Python 3.9 knows no ``|``.
    boot_apmask: Optional[str] = None  # noqa: UP045
    boot_aqmask: Optional[str] = None  # noqa: UP045
    modules: list[str] = field(default_factory=list)
    """In the order they were loaded."""
    config: Matrix = _NOTHING
    """What the bus saw when it scanned last: ap_qci_info."""
    apmask: IdSet = ALL_IDS
    aqmask: IdSet = ALL_IDS
    masks_in_use: bool = False
    """ap_apmask_aqmask_in_use: computed in a changing mask write and at no other time."""
    overrides: int = 0
    """ap_driver_override_ctr: does not fall when a queue with an override vanishes."""
    cards: dict[int, SimCard] = field(default_factory=dict)
    queues: dict[Apqn, Queue] = field(default_factory=dict)
    mdevs: dict[str, Mdev] = field(default_factory=dict)
    scans: int = 0
    complete_count: int = 0
    complete: bool = False
    """ap_apqn_bindings_complete: announced, and no device was probed since."""
    domain: int = -1
    config_time: int = 30
    poll_timeout: int = 250000
    no_autoprobe: list[str] = field(default_factory=list)
    """The buses whose ``drivers_autoprobe`` is 0."""

    def loaded(self, module: str) -> bool:
        """Return whether the module is loaded."""
        return module in self.modules

    def queues_of(self, adapter: int) -> list[Apqn]:
        """The queues of one adapter."""
        # Not a walk through all queues: a scan asks this for every adapter.
        apqns = (Apqn(adapter, domain) for domain in range(IDS))
        return [apqn for apqn in apqns if apqn in self.queues]

    def holder(self, queue: Apqn) -> Mdev | None:
        """The mediated device that ``queue`` is assigned to (vops:vfio_ap_mdev_for_queue)."""
        return next((mdev for mdev in self.mdevs.values() if mdev.matrix.holds(queue)), None)

    def check(self) -> None:
        """RequestError where parts that are right by themselves do not fit together."""
        profile_named(self.profile)
        self.hardware.check()
        queue_drivers = [queue.driver for queue in self.queues.values()]
        strange_uuids = [uuid for uuid in self.mdevs if not is_uuid(uuid) or uuid != uuid.lower()]
        for where, names, known, what in (
            ("modules", self.modules, MODULES, "module"),
            ("cards", [card.mode for card in self.cards.values()], MODES, "mode of an adapter"),
            ("cards", [card.driver for card in self.cards.values()], ("", "cex4card"), "driver of a card"),
            ("queues", queue_drivers, ("", "cex4queue", "vfio_ap"), "driver of a queue"),
            ("mdevs", strange_uuids, (), "uuid"),
        ):
            for name in names:
                if name not in known:
                    raise json_fields.unusable(f"kernel.{where}", f"{name[:40]!r} is not a valid {what}")
        for apqn in self.queues:
            if apqn.adapter not in self.cards:
                raise json_fields.unusable("kernel.queues", f"{apqn} has no card")

# SPDX-License-Identifier: Apache-2.0
"""The driver vfio_ap: mediated devices, what is assigned to them, and what a guest gets.

``guest_matrix`` is not a function of ``matrix``: the kernel changes it step by step, and so does this module.
It is computed again only where `VfioAp._filter` is called.
"""

from __future__ import annotations

from errno import EADDRINUSE, EADDRNOTAVAIL, EBUSY, EEXIST, EINVAL, EIO, ENODEV, EPERM, EUSERS
from typing import TYPE_CHECKING

from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.sim.grammar import kstrtoul, parse_ap_config, parse_uuid, refusal
from apvfio.sim.ownership import host_owns
from apvfio.sim.state import Mdev

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apvfio.sim.profile import Profile
    from apvfio.sim.state import State

DRIVER = "vfio_ap"
INSTANCES = 65536
_PAGE = 4096
_ADAPTERS, _DOMAINS, _CONTROL_DOMAINS = Matrix._fields


class VfioAp:
    """The driver's rules, working on ``state``."""

    def __init__(self, state: State, profile: Profile) -> None:
        self._state = state
        self._profile = profile
        self._added: dict[str, Matrix] = {}
        """What a scan under way brings each device: apm_add, aqm_add, adm_add."""

    # Mediated devices.

    def create(self, text: str) -> None:
        """Make a device (msys:create_store, mcore:mdev_device_create)."""
        uuid = parse_uuid(text)
        if uuid in self._state.mdevs:
            raise refusal(EEXIST)
        if not self.available_instances():
            raise refusal(EUSERS)
        taken = {mdev.group for mdev in self._state.mdevs.values() if mdev.bound}
        self._state.mdevs[uuid] = Mdev(group=next(n for n in range(INSTANCES) if n not in taken))

    def available_instances(self) -> int:
        """How many more devices could be made (vops:vfio_ap_mdev_register)."""
        return INSTANCES - len(self._state.mdevs)

    def remove(self, uuid: str, text: str) -> None:
        """Remove the device, unless ``text`` is 0 (msys:remove_store).

        If the device is open, the write waits. Since 6.12 QEMU is asked to release it, does so, and continues
        without it (vops:vfio_ap_mdev_request). Before 6.12, and always for a process that is not QEMU, the
        write waits until the process ends; as nothing can wait here, it is EBUSY.
        """
        try:
            wanted = kstrtoul(text)
        except OSError:
            raise refusal(EINVAL) from None
        if wanted:
            self.release(uuid)
            del self._state.mdevs[uuid]

    def release(self, uuid: str) -> None:
        """Take the device ``uuid`` from its driver; it has nothing then (vops:vfio_ap_mdev_remove)."""
        mdev = self._state.mdevs[uuid]
        lets_go = mdev.vm and self._profile.asks_to_let_go
        if mdev.open and not lets_go:
            raise refusal(EBUSY)
        self._reset(self._linked(mdev.matrix))
        self._state.mdevs[uuid] = Mdev(group=mdev.group, bound=False)

    def open(self, uuid: str, vm: str, opener: int) -> None:
        """The process ``opener`` opens the device; for a virtual machine unless ``vm`` is ''
        (vops:vfio_ap_mdev_open_device, vfio_ap_mdev_set_kvm)."""
        mdev = self._state.mdevs.get(uuid)
        if not mdev or not mdev.bound:
            raise refusal(ENODEV)
        if mdev.open:
            raise refusal(EBUSY)
        if vm and any(other.vm == vm for other in self._state.mdevs.values()):
            raise refusal(EPERM)
        mdev.vm, mdev.opener = vm, opener

    def close(self, uuid: str) -> None:
        """Whoever has the device open closes it; all that a virtual machine had is reset
        (vops:vfio_ap_mdev_unset_kvm)."""
        mdev = self._state.mdevs.get(uuid)
        if not mdev or not mdev.open:
            raise refusal(ENODEV)
        if mdev.vm:
            self._reset(self._linked(mdev.matrix))
        mdev.vm, mdev.opener = "", 0

    # Assignment. With only one dimension assigned there is no queue to check.

    def assign(self, mdev: Mdev, dimension: str, text: str) -> None:
        """Add an id (vops:assign_adapter_store, assign_domain_store, assign_control_domain_store)."""
        number = self._id(text, dimension)
        ids: IdSet = getattr(mdev.matrix, dimension)
        new = _with(mdev.matrix, dimension, ids | IdSet([number]))
        if dimension == _CONTROL_DOMAINS:  # other devices may have it, too
            mdev.matrix = new
            self._filter_control_domains(mdev)
        elif number not in ids:  # or else it is not even filtered again
            self._check(mdev, new)
            mdev.matrix = new
            self._filter(mdev)

    def unassign(self, mdev: Mdev, dimension: str, text: str) -> None:
        """Remove an id (vops:unassign_adapter_store and its like for domains)."""
        self._unassign(mdev, dimension, IdSet([self._id(text, dimension)]))

    def store_ap_config(self, mdev: Mdev, text: str) -> None:
        """Replace the whole matrix, or change nothing (vops:ap_config_store)."""
        new = parse_ap_config(text)
        self._check(mdev, new)
        hardware = self._state.hardware
        limits = (hardware.max_adapter, hardware.max_domain, hardware.max_domain)
        if any(number > limit for ids, limit in zip(new, limits) for number in ids):
            raise refusal(ENODEV)
        self._unassign(mdev, _ADAPTERS, mdev.matrix.adapters - new.adapters)
        self._unassign(mdev, _DOMAINS, mdev.matrix.domains - new.domains)
        mdev.matrix = new
        self._filter(mdev)
        self._filter_control_domains(mdev)

    def _id(self, text: str, dimension: str) -> int:
        number = kstrtoul(text)
        hardware = self._state.hardware
        if number > (hardware.max_adapter if dimension == _ADAPTERS else hardware.max_domain):
            raise refusal(ENODEV)
        return number

    def _unassign(self, mdev: Mdev, dimension: str, ids: IdSet) -> None:
        """The ids go from both matrices; what else was filtered out does not come back.

        Queues that a guest had, or would have had, are reset (vops:vfio_ap_mdev_hot_unplug_adapters).
        """
        had = set(self._linked(mdev.guest_matrix))
        mdev.matrix = _with(mdev.matrix, dimension, getattr(mdev.matrix, dimension) - ids)
        mdev.guest_matrix = _with(mdev.guest_matrix, dimension, getattr(mdev.guest_matrix, dimension) - ids)
        self._reset(had.difference(mdev.guest_matrix.queues()))

    def _check(self, mdev: Mdev, new: Matrix) -> None:
        """The whole matrix must be free, not only what is new in it
        (vops:vfio_ap_mdev_validate_masks, bus:ap_apqn_in_matrix_owned_by_def_drv)."""
        if any(host_owns(self._state, apqn) for apqn in new.queues()):
            raise refusal(EADDRNOTAVAIL)
        others = (other for other in self._state.mdevs.values() if other is not mdev)
        if any(not new.overlap(other.matrix).empty for other in others):
            raise refusal(EADDRINUSE)

    # What is shown.

    def show(self, matrix: Matrix) -> str:
        """A line for each queue, or for each id where there is only one dimension.

        Before 7.2 the kernel writes beyond the page if there are too many and dies of it; that is
        EIO here (vops:vfio_ap_mdev_matrix_show).
        """
        if not matrix.empty:
            lines = [f"{apqn}\n" for apqn in matrix.queues()]
        else:
            lines = [f"{a:02x}.\n" for a in matrix.adapters] + [f".{d:04x}\n" for d in matrix.domains]
        text = "".join(lines)
        if len(text) >= _PAGE and not self._profile.bounded_matrix:
            raise refusal(EIO)
        return text[: _PAGE - 1]

    def status(self, apqn: Apqn) -> str:
        """What a queue's ``status`` says (vops:status_show)."""
        mdev = self._state.holder(apqn)
        if not mdev:
            return "unassigned"
        return "in use" if mdev.vm and mdev.guest_matrix.holds(apqn) else "assigned"

    # What the bus asks and tells.

    def in_use(self, adapters: IdSet, domains: IdSet) -> bool:
        """Whether a device has a queue of these adapters and domains (vops:vfio_ap_mdev_resource_in_use)."""
        wanted = Matrix(adapters, domains)
        return any(not mdev.matrix.overlap(wanted).empty for mdev in self._state.mdevs.values())

    def probe_queue(self, apqn: Apqn) -> None:
        """A queue comes (vops:vfio_ap_mdev_probe_queue)."""
        self._state.queues[apqn].unusable = False
        for uuid, mdev in self._state.mdevs.items():
            # While a scan brings more, its end will filter.
            added = self._added.get(uuid, Matrix())
            if mdev.matrix.holds(apqn) and not (added.adapters or added.domains):
                self._filter(mdev)

    def remove_queue(self, apqn: Apqn) -> None:
        """A queue goes, and a guest that has it loses the whole adapter (vops:vfio_ap_mdev_remove_queue)."""
        mdev = self._state.holder(apqn)
        if mdev and mdev.guest_matrix.holds(apqn):
            had = Matrix(IdSet([apqn.adapter]), mdev.guest_matrix.domains)
            mdev.guest_matrix = _with(mdev.guest_matrix, _ADAPTERS, mdev.guest_matrix.adapters - had.adapters)
            self._reset(self._linked(had))
        elif self._state.config.holds(apqn):
            self._reset([apqn])

    def config_changed(self, old: Matrix, new: Matrix) -> None:
        """A scan finds other adapters or domains than the last one (vops:vfio_ap_on_cfg_changed)."""
        for uuid, mdev in self._state.mdevs.items():
            mdev.guest_matrix = _minus(mdev.guest_matrix, _minus(old, new))
            gained = _minus(new, old)
            self._added[uuid] = Matrix(*(ids & more for ids, more in zip(mdev.matrix, gained)))

    def scan_complete(self) -> None:
        """The scan is over: guests get what it brought (vops:vfio_ap_on_scan_complete)."""
        for uuid, added in self._added.items():
            mdev = self._state.mdevs[uuid]
            if added.adapters or added.domains:
                self._filter(mdev)
            if added.control_domains:
                self._filter_control_domains(mdev)
        self._added.clear()

    # guest_matrix and resets.

    def _filter(self, mdev: Mdev) -> None:
        """Give the guest what the host has of the matrix, without adapters of which a queue is
        missing (vops:vfio_ap_mdev_filter_matrix)."""
        before = mdev.guest_matrix
        config = self._state.config
        domains = mdev.matrix.domains & config.domains
        adapters = mdev.matrix.adapters & config.adapters
        whole = IdSet(a for a in adapters if all(self._passable(Apqn(a, d)) for d in domains))
        mdev.guest_matrix = before._replace(adapters=whole, domains=domains)
        if self._profile.resets_filtered:
            self._reset(self._linked(Matrix(before.adapters & adapters - whole, domains)))

    def _filter_control_domains(self, mdev: Mdev) -> None:
        """The guest controls what the host controls (vops:vfio_ap_mdev_filter_cdoms)."""
        control_domains = mdev.matrix.control_domains & self._state.config.control_domains
        mdev.guest_matrix = mdev.guest_matrix._replace(control_domains=control_domains)

    def _passable(self, apqn: Apqn) -> bool:
        queue = self._state.queues.get(apqn)
        return queue is not None and queue.driver == DRIVER and not queue.unusable

    def _linked(self, matrix: Matrix) -> Iterable[Apqn]:
        """The queues of ``matrix`` that this driver has: those in an mdev's matrix are its qtable."""
        for apqn in matrix.queues():
            queue = self._state.queues.get(apqn)
            if queue and queue.driver == DRIVER:
                yield apqn

    def _reset(self, apqns: Iterable[Apqn]) -> None:
        """Zeroize them (vops:vfio_ap_mdev_reset_queue)."""
        for apqn in apqns:
            queue = self._state.queues[apqn]
            deconfigured = apqn.adapter in self._state.hardware.standby
            queue.unusable = deconfigured and not self._profile.passes_deconfigured
            queue.interrupts = queue.interrupts and deconfigured


def _with(matrix: Matrix, dimension: str, ids: IdSet) -> Matrix:
    return matrix._replace(**{dimension: ids})


def _minus(matrix: Matrix, other: Matrix) -> Matrix:
    return Matrix(*(ids - less for ids, less in zip(matrix, other)))

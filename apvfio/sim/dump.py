# SPDX-License-Identifier: Apache-2.0
"""Make a simulated host from a real one: what `apvfio dump` copies.

State that the kernel does not show, such as the number of override writes that it has counted, is set as if
the host had come to its state in the usual way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apvfio.kernel.cards import MODES
from apvfio.kernel.device_migration import migrates_devices
from apvfio.kernel.lszcrypt import read_inventory
from apvfio.kernel.snapshot import in_use, read_default_domain, read_guest_queues, read_host
from apvfio.model.errors import RequestError
from apvfio.model.host import BUS, Host
from apvfio.model.ids import ALL_IDS, IdSet, parse_hex
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.persistent_masks import RULE
from apvfio.plan.presence import absent_control_domains
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import DRAFT_MIGRATION, LINUX_6_1, LINUX_6_12, LINUX_7_2
from apvfio.sim.state import Mdev, Queue, SimCard
from apvfio.store import definitions, ledger_file
from apvfio.store.mkvps_note import MKVPS
from apvfio.store.policy_file import POLICY

if TYPE_CHECKING:
    from apvfio.kernel.lszcrypt import ApDevice
    from apvfio.kernel.seam import Files, Sysfs, System
    from apvfio.sim.files import Entry
    from apvfio.sim.state import State


def dump(system: System, path: str, *, force: bool = False) -> Host:
    """Write a simulated host like ``system`` to the file ``path``, and return a description of it."""
    host = read_host(system.sysfs)
    ledger = ledger_file.load(system.files, system.boot_id)
    create_sim(path, simulated(system.sysfs, host), files=_files(system.files), force=force)
    with open_sim(path) as copy:
        # Its leases are those of the copy's boot; no mdevctl will make a device there.
        ledger_file.save(copy.files, ledger._replace(boot_id=copy.boot_id, claims={}))
        # Of a guest's queues nobody can read the master keys any more.
        remembered = system.files.read(MKVPS)
        if remembered:
            copy.files.write(MKVPS, remembered)
    return host


def simulated(sysfs: Sysfs, host: Host) -> SimKernel:
    """A simulated kernel in the state of the one behind ``sysfs``, of which ``host`` is a snapshot."""
    devices = list(read_inventory(sysfs))
    kernel = SimKernel.new(
        profile=_profile(sysfs, host),
        # A card of a kind that cannot be simulated passes for a CCA coprocessor.
        adapters={int(card.id, 16): MODES.get(card.mode, "cca") for card in devices if not card.queue},
        domains=_domains(sysfs, host, "ap_usage_domain_mask"),
        control_domains=host.domains if host.control_domains is None else host.control_domains,
        vfio_ap=host.vfio_ap,
        max_adapter=host.max_adapter,
        max_domain=host.max_domain,
    )
    state = kernel.state
    state.apmask, state.aqmask = host.apmask, host.aqmask
    state.masks_in_use = host.abilities.override and not host.apmask == ALL_IDS == host.aqmask
    state.overrides = len(host.overrides)
    state.domain = read_default_domain(sysfs)
    state.hardware.features = _read(sysfs, "features") or state.hardware.features
    if not sysfs.exists(f"{BUS}/drivers/cex4queue"):
        state.modules.remove("zcrypt_cex4")
    state.queues = {}
    for device in devices:
        if device.queue is None:
            state.cards[int(device.id, 16)] = _card(device, state)
        elif device.queue in host.drivers:  # and did not come while the host was read
            state.queues[device.queue] = _queue(sysfs, device, device.queue, host)
    for number, uuid in enumerate(sorted(host.mdevs)):
        state.mdevs[uuid] = _mdev(sysfs, host, uuid, number)
    return kernel


def _profile(sysfs: Sysfs, host: Host) -> str:
    if migrates_devices(sysfs):
        return DRAFT_MIGRATION
    if host.abilities.strict_return or host.abilities.override:
        return LINUX_7_2
    return LINUX_6_12 if sysfs.exists(f"{BUS}/features") else LINUX_6_1


def _card(device: ApDevice, state: State) -> SimCard:
    adapter = int(device.id, 16)
    configured = device.status != "deconfig"
    if not configured:
        state.hardware.standby |= IdSet([adapter])
    return SimCard(
        mode=state.hardware.adapters[adapter],
        driver=device.driver or "",
        config=configured,
        online=device.status != "offline",
        requests=device.requests or 0,
        hwtype=device.hwtype or SimCard.hwtype,
    )


def _queue(sysfs: Sysfs, device: ApDevice, queue: Apqn, host: Host) -> Queue:
    directory = f"devices/{queue}"
    keys = _read(sysfs, f"{directory}/mkvps")
    return Queue(
        driver=host.drivers[queue],
        override=host.overrides.get(queue, ""),
        config=device.status != "deconfig",
        online=device.status != "offline",
        initiated=_read(sysfs, f"{directory}/request_count") != "-",
        resetting="in progress" in _read(sysfs, f"{directory}/reset"),
        interrupts="enabled" in _read(sysfs, f"{directory}/interrupt"),
        requests=device.requests or 0,
        mkvps=keys if "0x" in keys else "",
    )


def _mdev(sysfs: Sysfs, host: Host, uuid: str, number: int) -> Mdev:
    matrix = host.mdevs[uuid]
    try:
        seen = read_guest_queues(sysfs, uuid, matrix)
    except OSError:
        seen = None  # it has gone while the host was read
    guest_matrix = matrix
    if seen is not None:
        controlled = matrix.control_domains - absent_control_domains(matrix, host)
        guest_matrix = Matrix(IdSet(q.adapter for q in seen), IdSet(q.domain for q in seen), controlled)
    attached = any(in_use(sysfs, queue) for queue in matrix.queues() if queue in host.drivers)
    return Mdev(number, matrix, guest_matrix, vm="the guest that was dumped" if attached else "")


def _domains(sysfs: Sysfs, host: Host, name: str) -> IdSet:
    """A mask of the hardware configuration, which not every machine tells."""
    try:
        return parse_hex(_read(sysfs, name), name) & IdSet(range(host.max_domain + 1))
    except RequestError:
        return host.domains


def _read(sysfs: Sysfs, name: str) -> str:
    try:
        return sysfs.read(f"{BUS}/{name}").strip()
    except OSError:
        return ""


def _files(files: Files) -> dict[str, Entry]:
    """The policy, the stored masks and mdevctl's definitions, as a simulated host keeps files."""
    defined = [f"{definitions.FOLDER}/{name}" for name in files.list(definitions.FOLDER)]
    kept: dict[str, Entry] = {}
    for path in (POLICY, RULE, *defined):
        text = files.read(path)
        if text is not None:
            kept[path] = {"mode": "0644", "text": text}
    return kept

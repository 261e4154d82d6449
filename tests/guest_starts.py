# SPDX-License-Identifier: Apache-2.0
"""Guests that are started for real on simulated hosts: the hook, then libvirt, then QEMU."""

from __future__ import annotations

import contextlib
import io
import shutil
from typing import TYPE_CHECKING, NamedTuple

from lxml import etree

from apvfio.domain.request import request_of
from apvfio.kernel.snapshot import read_guest_queues, read_host
from apvfio.libvirt import hook
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import NO_IDS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.sim.host_file import open_sim
from apvfio.sim.processes import Processes
from apvfio.store import ledger_file
from doctor_env import TEST_DRIVER, Patient, forget
from hosts import a_matrix, mdev
from lab.guest import guest_uuid, guest_xml

if TYPE_CHECKING:
    from apvfio.model.matrix import Apqn
    from apvfio.sim.host_file import SimSystem

STARTS = "starts"
REFUSED = "refused"
"""The hook, libvirt or QEMU refuses it."""
WITHOUT = "without"
"""It runs without queues that are meant to be its, or without some of them."""
_INACTIVE = 2
_LONG_AGO = 1000


class Def(NamedTuple):
    """A guest's definition."""

    name: str
    adapters: str = ""
    """'' for no annotation."""
    domains: str = ""
    device: int | None = 1
    """The number of its mediated device, None for none."""
    control: str = ""
    old: str = ""
    new: str = ""
    """Text of the definition that stands for ``old``."""
    autostart: bool = False

    def xml(self) -> str:
        """The domain."""
        wanted = a_matrix(self.adapters, self.domains) if self.adapters else None
        if wanted and self.control:
            wanted = wanted._replace(control_domains=a_matrix("0", self.control).domains)
        text = guest_xml(self.name, wanted, "" if self.device is None else mdev(self.device))
        assert self.old in text
        return text.replace(self.old, self.new) if self.old else text


class Trial(Patient):
    """A patient with guests that can be started, and a copy of it to try that on.

    What can befall a host is a method whose name and arguments a table can hold.
    """

    # What befalls it.

    def has(self, guest: Def) -> None:
        """Define a guest, or define it otherwise."""
        self.define_xml(guest.xml())
        if guest.autostart:
            self.domain(guest.name).setAutostart(1)

    def begin(self, name: str) -> None:
        """Start a guest, which must succeed."""
        with self.opened() as system:
            assert start(system, name, self.definition(name)) == STARTS
        self.domain(name).create()

    def runs(self, name: str) -> None:
        """The guest has been running since before it had what its definition has now."""
        with self.opened() as system:
            processes(system).start(guest_uuid(name), name)
        self.domain(name).create()

    def end(self, name: str) -> None:
        """Stop a guest."""
        with self.opened() as system:
            stop(system, name)
        self.domain(name).destroy()

    def crash(self, name: str) -> None:
        """The guest and libvirt's daemon die together, so that nobody says so."""
        with self.opened() as system:
            for pid in processes(system).of_guest(name):
                processes(system).end(pid)
        self.domain(name).destroy()

    def age(self) -> None:
        """All that happened, happened long ago."""
        with self.opened() as system:
            ledger = ledger_file.load(system.files, system.boot_id)
            leases = {k: lease._replace(since=lease.since - _LONG_AGO) for k, lease in ledger.leases.items()}
            ledger_file.save(system.files, ledger._replace(leases=leases))

    def presumed_off(self, name: str) -> None:
        """libvirt takes a guest for one that is off, and its QEMU goes on."""
        self.domain(name).destroy()

    def forgotten(self, name: str) -> None:
        """libvirt loses a guest, which goes on."""
        forget(self.domain(name))

    def made(self, device: int, adapters: str, domains: str) -> None:
        """Somebody makes a mediated device."""
        matrix = Matrix(*(parse_list(ids) if ids else NO_IDS for ids in (adapters, domains)))
        self.make_mdev(mdev(device), matrix)

    def opens(self, device: int, guest: str = "byhand") -> None:
        """A QEMU that is none of libvirt's guests opens a mediated device."""
        with self.opened() as system:
            table = processes(system)
            table.open(table.start(guest_uuid(guest), guest).pid, mdev(device))

    def removed(self, device: int) -> None:
        """Somebody removes a mediated device."""
        self.write(f"sys/{AP_MDEVS.remove(mdev(device))}", "1")

    def bus(self, attribute: str, text: str) -> None:
        """Somebody writes an attribute of the AP bus."""
        self.write(f"sys/bus/ap/{attribute}", text)

    def file(self, path: str, text: str) -> None:
        """Somebody writes a file of the host."""
        self.write(path, text)

    def does(self, *words: str) -> None:
        """Somebody runs apvfio."""
        assert self.run(*words) == 0, words

    def define_device(self, name: str) -> None:
        """Somebody gives mdevctl the definition of a guest's device."""
        assert self.run("define", "--connect", TEST_DRIVER, name) == 0

    def unload(self, *modules: str) -> None:
        """Kernel modules are unloaded."""
        with self.opened() as system:
            for module in modules:
                system.kernel.unload(module)

    def unplug(self, *adapters: int) -> None:
        """Adapters are taken from the partition."""
        with self.opened() as system:
            for adapter in adapters:
                system.kernel.unplug_adapter(adapter)

    def appears(self, adapter: int, mode: str) -> None:
        """The partition gets an adapter, and nothing has told the bus."""
        with self.opened() as system:
            system.kernel.state.hardware.adapters[adapter] = mode
            system.kernel.state.config = system.kernel.state.hardware.config()

    # What it is like.

    def definition(self, name: str) -> bytes:
        """A guest's definition."""
        return bytes(self.domain(name).XMLDesc(_INACTIVE).encode())

    def definitions(self) -> dict[str, str]:
        """All of them, by name."""
        names = (domain.name() for domain in self._libvirt.listAllDomains())
        return {name: self.definition(name).decode() for name in names}

    def tried(self, name: str, *, alone: bool = False) -> str:
        """What becomes of a start of the guest; with ``alone`` if libvirt's others have stopped before.

        One that runs has what it has now, and is stopped and started again. It is tried on a copy.
        """
        copy = f"{self.path}.tried"
        shutil.copy(self.path, copy)
        xml = self.definition(name)
        with open_sim(copy) as system:
            running = {n for n in self.definitions() if self.domain(n).isActive()}
            lasting = _meant(system, name)
            for other in running - {name} if alone else ():
                stop(system, other)
            if name in running:
                device = _device(self.domain(name).XMLDesc().encode())
                if has_lost(system, name) or (device and device not in read_host(system.sysfs).mdevs):
                    return WITHOUT
                stop(system, name)
            return start(system, name, xml, lasting)


def processes(system: SimSystem) -> Processes:
    """The processes of a host, of which nothing was known before."""
    system.processes = system.processes or Processes(system.kernel)
    return system.processes


def start(system: SimSystem, name: str, xml: bytes, lasting: set[Apqn] | None = None) -> str:
    """Start a guest as libvirt does: the hook, the device, QEMU.

    ``lasting`` are queues that it had until now: to request none is not what was meant then.
    """
    table = processes(system)
    if called(system, name, "prepare", xml):
        return REFUSED
    device = _device(xml)
    process = table.start(guest_uuid(name), name)
    try:
        if device:
            table.open(process.pid, device)
    except OSError:
        table.end(process.pid)
        called(system, name, "release", xml)
        return REFUSED
    wanted = _wanted(system, xml) or lasting or set()
    seen = _seen(system, device)
    return STARTS if wanted <= seen and (seen or not device) else WITHOUT


def stop(system: SimSystem, name: str) -> None:
    """Stop a guest as libvirt does; one whose process has gone already is stopped, too."""
    for pid in processes(system).of_guest(name):
        processes(system).end(pid)
    xml = guest_xml(name).encode()
    called(system, name, "release", xml)


def called(system: SimSystem, name: str, operation: str, xml: bytes) -> int:
    """libvirt calls the hook."""
    with contextlib.redirect_stderr(io.StringIO()):
        return hook.main([name, operation, "begin", "-"], system, xml)


def has_lost(system: SimSystem, name: str) -> bool:
    """Whether a running guest lacks queues that it was given and that the host has."""
    held = _meant(system, name)
    ledger = ledger_file.load(system.files, system.boot_id)
    lease = next((lease for lease in ledger.active_leases() if lease.guest == name), None)
    return bool(lease) and not held <= _seen(system, lease.mdev if lease else "")


def _meant(system: SimSystem, name: str) -> set[Apqn]:
    """The queues of its lease that the host has."""
    try:
        ledger = ledger_file.load(system.files, system.boot_id)
        there = read_host(system.sysfs).drivers
    except ApvfioError:
        return set()
    return {
        q
        for lease in ledger.active_leases()
        if lease.guest == name
        for q in lease.matrix.queues()
        if q in there
    }


def _wanted(system: SimSystem, xml: bytes) -> set[Apqn]:
    """The queues that its definition names and the host has; all of them if the host has none of them."""
    request = request_of(system.files, xml)
    there = read_host(system.sysfs).drivers
    named = set(request.matrix.queues()) if request else set()
    return {queue for queue in named if queue in there} or named


def _seen(system: SimSystem, device: str) -> set[Apqn]:
    host = read_host(system.sysfs)
    if device not in host.mdevs:
        return set()
    return read_guest_queues(system.sysfs, device, host.mdevs[device]) or set()


def _device(xml: bytes) -> str:
    address = etree.fromstring(xml).find("devices/hostdev[@model='vfio-ap']/source/address")
    return "" if address is None else (address.get("uuid") or "").lower()

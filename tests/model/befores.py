# SPDX-License-Identifier: Apache-2.0
"""Kinds of hosts, guests for them, and what may have happened on one before a verb."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.mdevctl.persistent_device import define
from apvfio.model.host import AP_MDEVS, MASKS, OVERRIDES
from apvfio.model.ledger import BY_ADAPTERS, BY_DOMAINS
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.policy_file import POLICY
from criteria import a_criteria
from hosts import IBM_DOMAINS, a_matrix, a_request, guest, mdev
from memory_host import IBM_ADAPTERS, Killed, Machine
from model.clock import Clock
from model.endings import GRACE, record_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apvfio.model.request import Request


class Cell(NamedTuple):
    """A kind of host."""

    profile: str
    mode: str
    way: str
    """By which mask guests are freed there, '' with overrides."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.profile, self.way or self.mode)))

    def machine(self) -> Machine:
        """IBM's host, of this kind."""
        machine = Machine(SimKernel.new(self.profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
        prefer = f'prefer = "{self.way}"\n' if self.way else ""
        machine.files.texts[POLICY] = f'mechanism = "{self.mode}"\n{prefer}'
        machine.running = set()
        return machine


def cells() -> Iterator[Cell]:
    """Every kind of host there is; a kernel that behaves as an older one is not another kind."""
    kinds = {
        profile._replace(name="", migratable=False): name
        for name, profile in reversed(list(PROFILES.items()))
    }
    for profile, name in reversed(list(kinds.items())):
        yield Cell(name, MASKS, BY_ADAPTERS)
        yield Cell(name, MASKS, BY_DOMAINS)
        if profile.overrides:
            yield Cell(name, OVERRIDES, "")


def domain_xml(request: Request, *, device: bool = True) -> bytes:
    """The domain of a guest with that request, as libvirt hands it to a hook; with its device, or without."""
    adapters, domains = request.matrix.adapters, request.matrix.domains
    hostdev = f"""<hostdev mode="subsystem" type="mdev" model="vfio-ap"><source>
        <address uuid="{request.mdev}"/></source></hostdev>"""
    return f"""<domain type="kvm"><name>{request.guest}</name><uuid>{request.guest_uuid}</uuid>
        <metadata><ap:guest xmlns:ap="urn:apvfio:guest:1">
        <ap:matrix adapters="{adapters}" domains="{domains}"/></ap:guest></metadata>
        <devices>{hostdev if device else ""}</devices></domain>""".encode()


ONE = a_request("0,10", "1-2", 1)
TWO = a_request("1", "4", 2)
BESIDE = a_request("1", "1-2", 2)
ANEW = a_request("1", "4", 1)
CONTROLLING = TWO._replace(matrix=Matrix(parse_list("1"), parse_list("4,27"), parse_list("1,4")))
BY_CRITERIA = TWO._replace(matrix=Matrix(), criteria=a_criteria("ep11", adapters=1, domains=2))
FOREIGN = mdev(9)


def nothing(machine: Machine) -> None:
    """The host as it boots."""


def held(machine: Machine) -> None:
    """Guest 1 runs."""
    start_guest(machine.process(), ONE)


def both(machine: Machine) -> None:
    """Guests 1 and 2 run."""
    held(machine)
    start_guest(machine.process(), BESIDE)


def attached(machine: Machine) -> None:
    """Guest 1 runs and has its device open, where the kernel can take it from a guest."""
    held(machine)
    if PROFILES[machine.kernel.state.profile].asks_to_let_go:
        run_qemu(machine, ONE)


def running(machine: Machine) -> None:
    """Guest 1 runs and has its device open."""
    held(machine)
    run_qemu(machine, ONE)


def starting_up(machine: Machine) -> None:
    """Guest 1 has its QEMU process, which has not opened the device yet."""
    held(machine)
    assert machine.processes
    machine.processes.start(guest(1))


def run_qemu(machine: Machine, request: Request) -> None:
    """The guest's QEMU starts and opens its device; OSError if that fails."""
    assert machine.processes
    machine.processes.open(machine.processes.start(request.guest_uuid).pid, request.mdev)


def end_qemu(machine: Machine, request: Request) -> None:
    """The guest's QEMU ends, if it runs."""
    assert machine.processes
    for pid in machine.processes.of_guest(request.guest_uuid):
        machine.processes.end(pid)


def recorded(machine: Machine) -> None:
    """Guest 1 has stopped; the hook recorded that, and its interpreter never ran."""
    running(machine)
    end_qemu(machine, ONE)
    record_stop(machine, 1, time.clock_gettime(time.CLOCK_BOOTTIME))


def recorded_beside(machine: Machine) -> None:
    """The same, and guest 2 runs."""
    both(machine)
    run_qemu(machine, ONE)
    run_qemu(machine, BESIDE)
    end_qemu(machine, ONE)
    record_stop(machine, 1, time.clock_gettime(time.CLOCK_BOOTTIME))


def strayed(machine: Machine) -> None:
    """Guest 1 runs, and a stop of it is recorded: another daemon failed to start it a second time."""
    running(machine)
    record_stop(machine, 1, time.clock_gettime(time.CLOCK_BOOTTIME))


def died(machine: Machine) -> None:
    """Guest 1 ran for long, and ended without a word from libvirt."""
    clock = Clock()
    clock.now = time.clock_gettime(time.CLOCK_BOOTTIME) - GRACE - 1
    with clock.running():
        held(machine)


def expected(machine: Machine) -> None:
    """Guest 1 is to arrive by a migration."""
    start_guest(machine.process(), ONE, expected=True)


def foreign_device(machine: Machine, matrix: Matrix, uuid: str = FOREIGN) -> None:
    """Somebody else's device with what apvfio has freed."""
    machine.kernel.write(AP_MDEVS.create, uuid)
    for kind, ids in zip(("adapter", "domain"), matrix):
        for i in ids:
            machine.kernel.write(f"{AP_MDEVS.device(uuid)}/assign_{kind}", str(i))


def owing(machine: Machine) -> None:
    """Guest 1 is gone, and its queues are pending returns: somebody else's device had them until now."""
    held(machine)
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")
    foreign_device(machine, a_matrix("0,10", "1-2"))
    release_guest(machine.process(), guest(1))
    machine.kernel.write(AP_MDEVS.remove(FOREIGN), "1")
    assert machine.ledger.pending or machine.ledger.overrides


def offline(machine: Machine) -> None:
    """The administrator has set two queues offline."""
    for queue in ("00.0001", "01.0004"):
        machine.kernel.write(f"bus/ap/devices/{queue}/online", "0")


def offline_held(machine: Machine) -> None:
    """Guest 1 runs with a queue that was offline."""
    offline(machine)
    held(machine)


def unbound(machine: Machine) -> None:
    """A queue has no driver."""
    machine.kernel.write("bus/ap/drivers/cex4queue/unbind", "01.0004")


def half_started(machine: Machine) -> None:
    """The hook of guest 1 died when the device had been made and had nothing yet."""
    start = machine.process()

    with mock.patch.object(start.sysfs, "write", _dying(start)):
        try:
            start_guest(start, ONE)
        except Killed:
            return
    raise AssertionError("it should have died")


def _dying(machine: Machine) -> Callable[[str, str], None]:
    write = machine.sysfs.write

    def dying(path: str, text: str) -> None:
        write(path, text)
        if path == AP_MDEVS.create:
            raise Killed

    return dying


def device_gone(machine: Machine) -> None:
    """Somebody has removed the device of guest 1."""
    held(machine)
    machine.kernel.write(AP_MDEVS.remove(mdev(1)), "1")


def queue_strayed(machine: Machine) -> None:
    """Somebody has unbound a queue of guest 1, and it stays guest 1's."""
    held(machine)
    machine.kernel.write("bus/ap/drivers/vfio_ap/unbind", "00.0001")


def narrowed(machine: Machine) -> None:
    """The administrator has cleared bits for himself."""
    machine.kernel.write("bus/ap/apmask", "-0,-99")
    machine.kernel.write("bus/ap/aqmask", "-1")


def overridden(machine: Machine) -> None:
    """The administrator has moved two queues by driver_override."""
    for queue in ("00.0001", "01.0004"):
        machine.kernel.write(f"bus/ap/devices/{queue}/driver_override", "vfio_ap")
        machine.kernel.write("bus/ap/drivers/cex4queue/unbind", queue)
        machine.kernel.write("bus/ap/drivers_probe", queue)


def ready_made(machine: Machine) -> None:
    """mdevctl has made the device that guest 2 requests, of queues that the administrator freed."""
    machine.kernel.write("bus/ap/apmask", "-1")
    foreign_device(machine, TWO.matrix, mdev(2))


def defined(machine: Machine) -> None:
    """The device of guest 2 is defined."""
    define(machine.process(), TWO)

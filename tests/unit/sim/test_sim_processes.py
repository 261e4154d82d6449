# SPDX-License-Identifier: Apache-2.0
"""Guests of a simulated host that live and die, and what the seam tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apvfio.cli.main import main
from apvfio.model.errors import Exit, RequestError
from apvfio.model.host import AP_MDEVS
from apvfio.model.process import UNKNOWN, Process
from apvfio.sim.host_file import SimSystem, create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.sim.processes import Processes
from apvfio.store.ledger_file import load
from domain_xml import MDEV as WRITTEN
from domain_xml import UUID, domain
from hosts import guest
from sim_kernels import VERSIONS, make, refused, uuid

if TYPE_CHECKING:
    from pathlib import Path

MDEV = WRITTEN.lower()


def host(version: str = "7.2") -> tuple[SimKernel, Processes]:
    """A host with the device 1, which has the queues of adapter 10 in the domains 1 and 2."""
    kernel = SimKernel.new(version, apmask="0xff")
    make(kernel, 1, "10", "1 2")
    return kernel, Processes(kernel)


def status(kernel: SimKernel) -> str:
    return kernel.read("bus/ap/drivers/vfio_ap/0a.0001/status").strip()


def test_nobody_is_known_until_a_guest_is_started() -> None:
    system = SimSystem.new(SimKernel.new())
    unknown = SimSystem.from_json(system.to_json())
    assert unknown.running_guests() is None
    assert unknown.opener(uuid(1)) is None
    assert unknown.lives(Process(1, 1))
    system.processes = Processes(system.kernel)
    known = SimSystem.from_json(system.to_json())
    assert known.running_guests() == {}
    assert not known.lives(Process(1, 1))


def test_a_guest_lives_attaches_and_dies() -> None:
    kernel, processes = host()
    process = processes.start(guest(1), "db1")
    assert processes.running_guests() == {guest(1): process}
    assert processes.lives(process)
    assert processes.opener(uuid(1)) is None
    assert status(kernel) == "assigned"
    processes.open(process.pid, uuid(1))
    assert processes.opener(uuid(1)) == process
    assert status(kernel) == "in use"
    assert processes.of_guest("db1") == processes.of_guest(guest(1)) == [process.pid]
    processes.end(process.pid)
    assert processes.running_guests() == {}
    assert not processes.lives(process)
    assert processes.opener(uuid(1)) is None
    assert status(kernel) == "assigned"


def test_a_zombie_is_no_guest_though_its_device_is_open() -> None:
    kernel, processes = host()
    process = processes.start(guest(1), "db1")
    processes.open(process.pid, uuid(1))
    processes.linger(process.pid)
    assert processes.running_guests() == {}
    assert not processes.lives(process)
    assert processes.opener(uuid(1)) == UNKNOWN
    assert processes.of_guest("db1") == []
    assert status(kernel) == "in use"
    processes.end(process.pid)
    assert status(kernel) == "assigned"


def test_a_pid_that_is_used_again_is_another_process() -> None:
    kernel, processes = host()
    first = processes.start(guest(1))
    processes.end(first.pid)
    processes = Processes.from_json(processes.to_json(), kernel)
    second = processes.start(pid=first.pid)
    assert second.pid == first.pid
    assert processes.lives(second)
    assert not processes.lives(first)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_that_is_open_without_kvm_is_not_in_use_and_cannot_be_removed(version: str) -> None:
    kernel, processes = host(version)
    process = processes.start()
    processes.open(process.pid, uuid(1), kvm=False)
    assert processes.running_guests() == {}
    assert processes.opener(uuid(1)) == process
    assert status(kernel) == "assigned"
    assert refused(lambda: kernel.write(AP_MDEVS.remove(uuid(1)), "1")) == "EBUSY"
    assert refused(lambda: kernel.unload("vfio_ap")) == "EAGAIN"
    other = processes.start(guest(1))
    assert refused(lambda: processes.open(other.pid, uuid(1))) == "EBUSY"
    processes.end(process.pid)
    processes.open(other.pid, uuid(1))
    assert status(kernel) == "in use"


def test_there_and_back() -> None:
    kernel, processes = host()
    processes.open(processes.start(guest(1), "db1").pid, uuid(1))
    processes.linger(processes.start(guest(2)).pid)
    processes.end(processes.start().pid)
    again = Processes.from_json(processes.to_json(), kernel)
    assert again.table == processes.table
    assert again.to_json() == processes.to_json()
    assert again.start() not in [Process(pid, process.started) for pid, process in processes.table.items()]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "is not of type dict"),
        ({"table": {"x": {"started": 1}}}, "'x' is not a pid"),
        ({"table": {"1": {}}}, "'started' is missing"),
        ({"table": {"1": {"started": 1, "guest": "db1"}}}, "'db1' is not a UUID"),
        ({"ticks": "1"}, "is not of type int"),
    ],
)
def test_other_documents_are_refused(document: Any, says: str) -> None:
    system = SimSystem.new(SimKernel.new()).to_json()
    with pytest.raises(RequestError, match=says):
        SimSystem.from_json({**system, "processes": document})


class Sim:
    """A simulated host in a file, a guest's XML, and commands that are run on both."""

    def __init__(self, directory: Path) -> None:
        self.file, self.xml = str(directory / "host.json"), str(directory / "db1.xml")
        create_sim(self.file, SimKernel.new())
        (directory / "db1.xml").write_bytes(domain())

    def run(self, verb: str, what: str = "db1") -> int:
        return main(["sim", verb, self.file, self.xml if verb == "start" else what])

    def leases(self) -> list[str]:
        with open_sim(self.file) as system:
            return list(load(system.files, system.boot_id).leases)

    def running(self) -> list[str] | None:
        with open_sim(self.file) as system:
            running = system.running_guests()
        return None if running is None else list(running)


@pytest.fixture
def sim(tmp_path: Path) -> Sim:
    return Sim(tmp_path)


@pytest.mark.parametrize("who", ["db1", UUID])
def test_a_guest_is_started_and_stopped_as_by_libvirt(sim: Sim, who: str) -> None:
    assert sim.running() is None
    assert sim.run("start") == Exit.OK
    assert (sim.running(), sim.leases()) == ([UUID], [MDEV])
    with open_sim(sim.file) as system:
        assert system.kernel.state.mdevs[MDEV].vm
    assert sim.run("stop", who) == Exit.OK
    assert (sim.running(), sim.leases()) == ([], [])


def test_a_guest_that_is_killed_leaves_its_lease(sim: Sim) -> None:
    assert sim.run("start") == Exit.OK
    assert sim.run("kill") == Exit.OK
    assert (sim.running(), sim.leases()) == ([], [MDEV])


def test_what_cannot_be_started_or_ended_is_told(sim: Sim, capsys: pytest.CaptureFixture[str]) -> None:
    assert sim.run("stop") == Exit.REQUEST
    assert "no guest db1 runs on the simulated host" in capsys.readouterr().err
    assert sim.run("start") == Exit.OK
    assert sim.run("start") == Exit.CONFLICT
    assert capsys.readouterr().err == "apvfio: guest db1: it runs already. Stop it first.\n"
    assert sim.run("kill", "db2") == Exit.REQUEST
    assert (sim.running(), sim.leases()) == ([UUID], [MDEV])


def test_a_start_that_the_hook_refuses_leaves_no_process(sim: Sim) -> None:
    with open_sim(sim.file) as system:
        system.kernel.unload("vfio_ap")
    assert sim.run("start") == Exit.HOST
    assert (sim.running(), sim.leases()) == ([], [])


def test_a_qemu_that_cannot_open_its_device_leaves_nothing(
    sim: Sim, capsys: pytest.CaptureFixture[str]
) -> None:
    """A guest without annotation: nobody has made its device."""
    with open(sim.xml, "wb") as file:
        file.write(domain(matrix="").replace(b"urn:apvfio:guest:1", b"urn:another"))
    assert sim.run("start") == Exit.HOST
    assert f"its QEMU cannot open the mediated device {MDEV}: No such device." in capsys.readouterr().err
    assert (sim.running(), sim.leases()) == ([], [])

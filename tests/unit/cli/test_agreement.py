# SPDX-License-Identifier: Apache-2.0
"""Commands agree with each other and with the simulated kernel on hosts of every kind.

A host is a history: guests that start, stop, die or lose their device, other programs that change masks and
devices, an administrator who changes the masks. Then every command that tells of the host is asked.
"""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apvfio.cli.main import main
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.libvirt.guest_status import KnownGuest, guest_status
from apvfio.libvirt.status import read_status
from apvfio.model.errors import ApvfioError
from apvfio.model.host import AP_MDEVS, VFIO_DRIVER
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.owners import FREE
from apvfio.model.request import Request
from apvfio.sim.host_file import SimSystem, create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.sim.processes import Processes
from apvfio.sim.profile import PROFILES
from hosts import a_matrix, guest, mdev
from json_schema import require
from lab.guest import guest_uuid, guest_xml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from apvfio.libvirt.status import Status

ADAPTERS, DOMAINS = (0, 1, 10), (1, 2, 4, 27)
NUMBERS = (1, 2, 3)
FOREIGN = mdev(9)
DOCUMENTS = {"status": "status", "log": "events", "plan": "plan", "reconcile": "outcome"}

adapters = st.frozensets(st.sampled_from(ADAPTERS), min_size=1, max_size=2).map(IdSet)
domains = st.frozensets(st.sampled_from(DOMAINS), min_size=1, max_size=2).map(IdSet)
matrices = st.builds(Matrix, adapters, domains, st.just(IdSet()))
numbers = st.sampled_from(NUMBERS)


def request(number: int, matrix: Matrix) -> Request:
    return Request(f"g{number}", guest(number), mdev(number), matrix)


Act = "Callable[[SimSystem], None]"


def start(number: int, matrix: Matrix, *, attached: bool) -> Callable[[SimSystem], None]:
    """A guest starts and runs, with its device open or, the device unplugged, without."""

    def act(system: SimSystem) -> None:
        processes = system.processes
        assert processes
        if processes.of_guest(guest(number)):
            return
        start_guest(system, request(number, matrix))
        process = processes.start(guest(number), f"g{number}")
        if attached:
            processes.open(process.pid, mdev(number))

    return act


def end(number: int, *, told: bool) -> Callable[[SimSystem], None]:
    """Its process ends; libvirt says so or does not."""

    def act(system: SimSystem) -> None:
        processes = system.processes
        assert processes
        for pid in processes.of_guest(guest(number)):
            processes.end(pid)
        if told:
            release_guest(system, guest(number))

    return act


def remove(uuid: str) -> Callable[[SimSystem], None]:
    """Somebody removes a device."""
    return lambda system: system.sysfs.write(AP_MDEVS.remove(uuid), "1")


def write(path: str, text: str) -> Callable[[SimSystem], None]:
    """Somebody writes to the kernel."""
    return lambda system: system.sysfs.write(path, text)


def make_foreign(index: int) -> Callable[[SimSystem], None]:
    """Another program makes a device of one of the queues that are free."""

    def act(system: SimSystem) -> None:
        free = [queue for queue, owner in read_status(system).owners.items() if owner == FREE]
        if free:
            queue = free[index % len(free)]
            system.sysfs.write(AP_MDEVS.create, FOREIGN)
            system.sysfs.write(f"{AP_MDEVS.device(FOREIGN)}/assign_adapter", str(queue.adapter))
            system.sysfs.write(f"{AP_MDEVS.device(FOREIGN)}/assign_domain", str(queue.domain))

    return act


def reconcile(system: SimSystem) -> None:
    reconcile_host(system)


changes = st.sampled_from(["-0", "-1", "-10", "+0", "+1", "+10", "-0,-1"])
acts = st.one_of(
    st.builds(lambda n, m, a: start(n, m, attached=a), numbers, matrices, st.booleans()),
    st.builds(lambda n, t: end(n, told=t), numbers, st.booleans()),
    st.builds(lambda n: remove(mdev(n)), st.sampled_from((*NUMBERS, 9))),
    st.builds(lambda c: write("bus/ap/apmask", c), changes),
    st.builds(
        lambda c: write("bus/ap/aqmask", c), st.sampled_from(["-1", "-2,-4", "+1", "+2,+4", "-27", "+27"])
    ),
    st.builds(
        lambda n, d: write(f"{AP_MDEVS.device(mdev(n))}/unassign_domain", str(d)),
        numbers,
        st.sampled_from(DOMAINS),
    ),
    st.builds(make_foreign, st.integers(0, 11)),
    st.just(reconcile),
)


BEGINNINGS: list[list[Callable[[SimSystem], None]]] = [
    [],
    # A device of another program holds what a guest's start freed, longer than the guest runs.
    [start(1, a_matrix("0", "1-2"), attached=True), make_foreign(0), end(1, told=True)],
    [start(1, a_matrix("0,10", "1-2"), attached=True), make_foreign(1), end(1, told=True), remove(FOREIGN)],
]


class Host:
    """A simulated host in a file, and what the commands say of it."""

    def __init__(self, path: str, version: str, history: list[Callable[[SimSystem], None]]) -> None:
        self.path = path
        create_sim(path, SimKernel.new(version), force=True)
        with open_sim(path) as system:
            system.processes = Processes(system.kernel)
            for act in history:
                with suppress(ApvfioError, OSError):
                    act(system)

    def said(self, *words: str) -> str:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            main(["--sim", self.path, *words])
        return out.getvalue()

    def json(self, *words: str) -> Any:
        document = json.loads(self.said(*words, "--json"))
        require("failure" if "error" in document else DOCUMENTS[words[0]], document)
        return document

    def metrics(self) -> dict[str, float]:
        """Each sample by its name and labels."""
        file = f"{self.path}.prom"
        self.said("metrics", "--output", file)
        with open(file, encoding="utf-8") as text:
            lines = [line.rpartition(" ") for line in text if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}


HISTORIES = st.builds(list.__add__, st.sampled_from(BEGINNINGS), st.lists(acts, max_size=8))


@pytest.mark.parametrize("version", PROFILES)
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=HISTORIES)
def test_all_commands_agree(
    tmp_path_factory: pytest.TempPathFactory, version: str, history: list[Callable[[SimSystem], None]]
) -> None:
    require_agreement(tmp_path_factory.getbasetemp(), version, history)


@pytest.mark.slow
@pytest.mark.parametrize("version", PROFILES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES)
def test_all_commands_agree_after_many_histories(
    tmp_path_factory: pytest.TempPathFactory, version: str, history: list[Callable[[SimSystem], None]]
) -> None:
    require_agreement(tmp_path_factory.getbasetemp(), version, history)


def require_agreement(directory: Path, version: str, history: list[Callable[[SimSystem], None]]) -> None:
    """That all commands tell the same of a host with that history, and what the kernel says."""
    host = Host(str(directory / f"agreement-{version}.json"), version, history)
    status, preview, metrics = host.json("status"), host.json("reconcile", "-n"), host.metrics()
    with open_sim(host.path) as system:
        seen = read_status(system)
        truth = {str(q): driver for q, driver in seen.host.drivers.items()}
        mdevs = {uuid: m.matrix for uuid, m in system.kernel.state.mdevs.items()}
        open_mdevs = {uuid for uuid, m in system.kernel.state.mdevs.items() if m.opener}
        running = set(system.running_guests() or ())
    owners_are_true(status, truth, mdevs, metrics)
    drift_is_the_same(status, preview, metrics)
    running_guests_are_the_same(status, running, host)
    pending_returns_are_the_same(status, metrics, preview, seen)
    guests_have_what_the_kernel_says(seen, mdevs, running, open_mdevs)
    the_log_has_who_holds_what(host, seen)
    the_preview_comes_true(host, preview)


def owners_are_true(
    status: Any, truth: dict[str, str], mdevs: dict[str, Matrix], metrics: dict[str, float]
) -> None:
    """A queue is a guest's or a device's only if the kernel has it there."""
    for queue in status["queues"]:
        holder = [
            u
            for u, m in mdevs.items()
            if truth[queue["queue"]] == VFIO_DRIVER and m.holds(parsed(queue["queue"]))
        ]
        kind, _, name = queue["owner"].partition(" ")
        assert (kind in ("guest", "mdev")) == bool(holder), queue
        if kind == "guest":
            assert holder == [lease["mdev"] for lease in status["leases"] if lease["guest"] == name]
    for kind in ("host", "guest", "mdev", "free", "unbound"):
        count = sum(queue["owner"].partition(" ")[0] == kind for queue in status["queues"])
        assert metrics[f'apvfio_queues{{owner="{kind}"}}'] == count


def parsed(name: str) -> Apqn:
    queue = Apqn.parse(name)
    assert queue
    return queue


def drift_is_the_same(status: Any, preview: Any, metrics: dict[str, float]) -> None:
    assert preview["seen"] == status["drift"]
    assert metrics["apvfio_drift"] == len(status["drift"])
    steps = [step for step in preview["steps"] if step["op"] != "offline"]
    assert not steps or status["drift"], "reconcile would change a host on which nothing differs"


def running_guests_are_the_same(status: Any, running: set[str], host: Host) -> None:
    """Status and plan say the same of who runs, and plan what a running guest keeps."""
    for lease in status["leases"]:
        assert lease["running"] == (lease["uuid"] in running)
    for number in NUMBERS:
        xml = guest_xml(f"g{number}", a_matrix("0", "1"), mdev(number)).replace(
            guest_uuid(f"g{number}"), guest(number)
        )
        with open(f"{host.path}.xml", "w", encoding="utf-8") as file:
            file.write(xml)
        plan = host.json("plan", "--xml", f"{host.path}.xml")
        if "error" in plan:
            continue
        held = [lease for lease in status["leases"] if lease["uuid"] == guest(number)]
        assert plan["running"] == (guest(number) in running)
        there = held and plan["running"] and held[0]["state"] == "held"
        keeps = Matrix(parse_list(held[0]["adapters"]), parse_list(held[0]["domains"])) if there else Matrix()
        gone = not plan["keeps"] and there  # its device was removed: it keeps nothing
        assert gone or plan["keeps"] == [str(queue) for queue in keeps.queues()]


def pending_returns_are_the_same(status: Any, metrics: dict[str, float], preview: Any, seen: Status) -> None:
    for name, mask in (("apmask", seen.host.apmask), ("aqmask", seen.host.aqmask)):
        pending = ids(status["pending"][name])
        assert pending == listed(status, name)
        assert metrics[f'apvfio_pending_mask_bits{{mask="{name}"}}'] == len(pending)
        for one in status["pending_returns"]:
            for owner in one["held_by"] if one["attribute"] == name else ():
                lease = seen.ledger.leases.get(owner["mdev"])
                assert (owner["kind"] == "guest") == (lease is not None), owner
                assert lease or owner["mdev"] in seen.host.mdevs
        left = ids(preview["pending"][name])
        assert left == listed(preview, name)
        for one in preview["pending_returns"]:
            if one["attribute"] == name:
                assert one["held_by"], "reconcile leaves what nobody holds"
                assert not ids(one["ids"]) & set(mask)


def listed(document: Any, mask: str) -> set[int]:
    """The ids of ``mask`` in its list of pending returns."""
    return {i for one in document["pending_returns"] if one["attribute"] == mask for i in ids(one["ids"])}


def ids(text: str) -> set[int]:
    return set(parse_list(text)) if text else set()


def guests_have_what_the_kernel_says(
    seen: Status, mdevs: dict[str, Matrix], running: set[str], open_mdevs: set[str]
) -> None:
    """The guest list's pure part: "has its queues" is said of who has them, and of nobody else."""
    for number in NUMBERS:
        lease = seen.lease(guest(number))
        device = mdev(number) if mdev(number) in open_mdevs else None
        asks = request(number, lease.matrix if lease else a_matrix("0", "1"))
        active = guest(number) in running
        one = guest_status(seen, KnownGuest(f"g{number}", guest(number), active, asks, device))
        assert one
        has = active and lease is not None and device == lease.mdev and mdevs.get(device) == lease.matrix
        bound = lease is not None and all(
            seen.host.drivers.get(q) == VFIO_DRIVER for q in lease.matrix.queues()
        )
        assert (one.now == "has its queues") <= bool(has and bound), one.now
        if has and bound and lease and not seen.faults(lease):
            assert one.now == "has its queues"
        lost = guest_status(seen, KnownGuest(f"g{number}", guest(number), active, None, device))
        assert (lost is not None) == (lease is not None)


def the_log_has_who_holds_what(host: Host, seen: Status) -> None:
    """Replayed, the audit log ends with the guests of the ledger."""
    held: dict[str, str] = {}
    for event in host.json("log"):
        if event["kind"] in ("started", "changed", "held"):
            held[event["mdev"]] = event["guest"]
        elif event["kind"] == "stopped":
            held.pop(event["mdev"], None)
    assert held == {lease.mdev: lease.guest for lease in seen.ledger.leases.values() if lease.since}


def the_preview_comes_true(host: Host, preview: Any) -> None:
    """Reconcile does what its dry run said, and then neither has anything more to do."""
    done = host.json("reconcile")
    assert written(done) == written(preview)
    for key in ("pending", "pending_returns"):
        assert done[key] == preview[key]
    again = host.json("reconcile", "-n")
    assert again["steps"] == []
    assert host.json("status")["drift"] == again["seen"]


def written(outcome: Any) -> set[tuple[str, str]]:
    """Attribute by attribute; bits of one mask may be written in turns."""
    found = set()
    for step in outcome["steps"]:
        parts = re.findall(r"[+-]\d+", step["value"]) if step["path"].endswith("mask") else [step["value"]]
        found |= {(step["path"], part) for part in parts}
    return found

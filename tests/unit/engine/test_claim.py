# SPDX-License-Identifier: Apache-2.0
"""Queues freed for devices that mdevctl makes, and what becomes of them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apvfio.cli.status import describe
from apvfio.engine.claim import MasksOnlyError, end_claim, make_claim
from apvfio.engine.mechanism import switch_mechanism
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import ApvfioError, ConflictError, HostError, PolicyError, RequestError
from apvfio.model.host import AP_MDEVS, OVERRIDES, VFIO_DRIVER, MaskBits
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.model.ledger import BY_DOMAINS, BY_OVERRIDES, Claim, Ledger
from apvfio.model.mask_grammar import parse_mask_spec
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.owners import owners
from apvfio.model.process import Process
from apvfio.plan.drift import drift
from apvfio.plan.mask_edit import MaskEdit
from apvfio.sim.dump import dump
from apvfio.sim.host_file import open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.ledger_file import LEDGER, load, save
from apvfio.store.policy_file import POLICY
from apvfio.store.processes import find_process, parent
from apvfio.view.matrix_text import Look
from hosts import BOOT, IBM_DOMAINS, NO_LEASES, a_host, a_matrix, a_request, guest, mdev
from memory_host import IBM_ADAPTERS, Killed, Machine

MDEVCTL = Process(4242, 100)
ANOTHER = Process(4343, 200)
ROW = a_matrix("0", "1-2")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def free(machine: Machine, matrix: Matrix = ROW, n: int = 1, process: Process = MDEVCTL) -> tuple[str, ...]:
    return make_claim(machine, mdev(n), matrix, process)


def make(machine: Machine, matrix: Matrix = ROW, n: int = 1) -> None:
    """As mdevctl does it: attribute by attribute."""
    machine.kernel.write(AP_MDEVS.create, mdev(n))
    for name, ids in zip(("adapter", "domain", "control_domain"), matrix):
        for i in ids:
            machine.kernel.write(f"{AP_MDEVS.device(mdev(n))}/assign_{name}", str(i))


def remove(machine: Machine, n: int = 1) -> None:
    machine.kernel.write(AP_MDEVS.remove(mdev(n)), "1")


def vfio_queues(machine: Machine) -> int:
    return sum(driver == VFIO_DRIVER for driver in machine.host.drivers.values())


def test_queues_are_freed_kept_and_returned(machine: Machine) -> None:
    before = machine.host
    assert free(machine) == ("the host loses 2 collateral queues: 00.0004, 00.001b",)
    assert machine.sysfs.written == [("bus/ap/apmask", "-0")]
    assert machine.ledger.claims == {mdev(1): Claim(mdev(1), ROW, "adapters", MDEVCTL)}
    assert machine.ledger.pending == MaskBits(IdSet([0]), NO_IDS)
    # However often others reconcile, the queues stay free until the device holds all of them.
    machine.kernel.write(AP_MDEVS.create, mdev(1))
    for attribute, value in (("assign_adapter", "0"), ("assign_domain", "1"), ("assign_domain", "2")):
        assert reconcile_host(machine).steps == []
        assert machine.ledger.claims
        machine.kernel.write(f"{AP_MDEVS.device(mdev(1))}/{attribute}", value)
    reconcile_host(machine)
    assert not machine.ledger.claims
    assert machine.ledger.pending
    assert machine.host.mdevs == {mdev(1): ROW}
    remove(machine)
    reconcile_host(machine)
    assert machine.host == before
    assert not machine.ledger.pending


@pytest.mark.parametrize("profile", PROFILES)
def test_a_start_that_comes_to_nothing(profile: str) -> None:
    machine = Machine(SimKernel.new(profile=profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    before = machine.host
    free(machine)
    end_claim(machine, mdev(1), ANOTHER)
    assert reconcile_host(machine).steps == []
    end_claim(machine, mdev(1), MDEVCTL)
    reconcile_host(machine)
    assert machine.host == before
    assert machine.ledger == NO_LEASES


def test_a_promise_ends_with_its_process(machine: Machine) -> None:
    before = machine.host
    free(machine)
    assert reconcile_host(machine).steps == []
    machine.dead.add(MDEVCTL.pid)
    reconcile_host(machine)
    assert machine.host == before


def test_bits_set_while_mdevctl_works_are_cleared_again(machine: Machine) -> None:
    free(machine)
    machine.kernel.write("bus/ap/apmask", "+0")
    assert [step.value for step in reconcile_host(machine).steps] == ["-0"]


def test_promised_queues_are_nobody_elses(machine: Machine) -> None:
    free(machine)
    before = machine.snapshot()
    with pytest.raises(ConflictError, match=f"00.0001 is held by the mediated device {mdev(1)}"):
        start_guest(machine, a_request("0", "1", 2))
    with pytest.raises(ConflictError, match=f"00.0001, 00.0002 are held by the mediated device {mdev(1)}"):
        free(machine, n=3)
    with pytest.raises(ConflictError, match=r"is being started by mdevctl \(process 4242\)"):
        start_guest(machine, a_request("0", "1-2"))
    with pytest.raises(ConflictError, match=r"being started by mdevctl \(process 4242\)"):
        free(machine, process=ANOTHER)
    with pytest.raises(ConflictError, match="mdevctl is starting the mediated device"):
        switch_mechanism(machine, OVERRIDES)
    assert machine.snapshot() == before
    start_guest(machine, a_request("1", "1", 4))
    assert {str(owner) for owner in owners(machine.host, machine.ledger).values()} == {
        f"mdev {mdev(1)}",
        "guest g4",
        "free",
        "host",
    }


def test_status_shows_what_is_promised(machine: Machine) -> None:
    free(machine)
    lines = list(describe(machine, Look(utf8=False)))
    assert (
        "mdevctl starts a device: adapters 0, domains 1-2; freed by adapters, "
        f"mdev {mdev(1)}, process {MDEVCTL.pid}"
    ) in lines
    assert any(mdev(1)[:8] in line and "2 queues" in line for line in lines)


def test_a_copy_of_the_host_has_no_mdevctl(machine: Machine, tmp_path: Path) -> None:
    free(machine)
    dump(machine, str(tmp_path / "copy.json"))
    with open_sim(str(tmp_path / "copy.json")) as copy:
        reconcile_host(copy)
        assert read_host(copy.sysfs).apmask == ALL_IDS


def test_the_same_mdevctl_may_ask_again(machine: Machine) -> None:
    free(machine, a_matrix("0", "1"))
    free(machine, a_matrix("1", "1-2"))
    assert machine.ledger.claims[mdev(1)].matrix == a_matrix("1", "1-2")
    assert machine.host.apmask == ALL_IDS - IdSet([1]) or machine.host.aqmask == ALL_IDS - IdSet([1, 2])


def test_masks_that_a_promise_needs_cannot_be_set(machine: Machine) -> None:
    from apvfio.engine.edit_masks import plan_masks

    free(machine)
    with pytest.raises(ConflictError, match="which mdevctl starts"):
        plan_masks(machine, MaskEdit(parse_mask_spec("+0"), None, persistent=False))


def test_a_guest_adopts_the_device_that_mdevctl_made(machine: Machine) -> None:
    before = machine.host
    free(machine)
    make(machine)
    lease = start_guest(machine, a_request("0", "1-2"))
    assert not lease.created
    assert not machine.ledger.claims
    release_guest(machine, guest(1))
    assert set(machine.host.mdevs) == {mdev(1)}
    assert machine.ledger.pending == MaskBits(IdSet([0]), NO_IDS)
    remove(machine)
    reconcile_host(machine)
    assert machine.host == before


def test_a_device_that_is_there_and_one_without_queues_get_nothing(machine: Machine) -> None:
    free(machine)
    make(machine)
    reconcile_host(machine)
    machine.sysfs.written.clear()
    assert free(machine) == ()
    assert free(machine, Matrix(IdSet([1])), 2) == ()
    assert machine.sysfs.written == []
    assert not machine.ledger.claims


REFUSALS = [
    (a_matrix("0", "1"), ConflictError, rf"^APQN 0\.1 already in use by {mdev(9)} \(guest g9\)\. Stop"),
    (a_matrix("0", "1-2"), ConflictError, r"^APQN 0\.1 \(and 1 more\) already in use by"),
    (a_matrix("10", "1-2"), ConflictError, rf"^APQN 10\.2 already in use by {mdev(8)}\. Stop"),
    (a_matrix("1", "27"), PolicyError, r"01\.001b is reserved for the host"),
    (a_matrix("7", "1"), HostError, "this host has no adapter 7"),
    (Matrix(IdSet([1]), NO_IDS, IdSet([1])), RequestError, "^At least one usage domain must be specified"),
]


@pytest.mark.parametrize(("matrix", "kind", "says"), REFUSALS)
def test_what_cannot_be_had_is_refused_and_nothing_has_changed(
    machine: Machine, matrix: Matrix, kind: type[ApvfioError], says: str
) -> None:
    machine.files.texts[POLICY] = '[reserve]\nqueues = ["01.001b"]\n'
    start_guest(machine, a_request("0", "1-2", 9))
    machine.kernel.write("bus/ap/aqmask", "-2")
    make(machine, a_matrix("10", "2"), 8)
    before = machine.snapshot()
    with pytest.raises(kind, match=says):
        free(machine, matrix)
    assert machine.snapshot() == before


def test_overrides_without_ap_check_and_with(machine: Machine) -> None:
    machine.files.texts[POLICY] = 'mechanism = "overrides"\n'
    before = machine.snapshot()
    with pytest.raises(MasksOnlyError, match="driver_override"):
        make_claim(machine, mdev(1), ROW, MDEVCTL, masks_only=True)
    assert machine.snapshot() == before
    free(machine)
    assert vfio_queues(machine) == 2
    assert machine.ledger.claims[mdev(1)].freed_by == BY_OVERRIDES
    assert reconcile_host(machine).steps == []
    make(machine)
    reconcile_host(machine)
    assert machine.ledger.overrides
    remove(machine)
    reconcile_host(machine)
    assert vfio_queues(machine) == 0
    assert machine.ledger == NO_LEASES


def test_a_queue_that_was_offline_comes_home_offline(machine: Machine) -> None:
    machine.kernel.write("bus/ap/devices/00.0001/online", "0")
    free(machine)
    make(machine)
    reconcile_host(machine)
    remove(machine)
    reconcile_host(machine)
    assert machine.kernel.read("bus/ap/devices/00.0001/online").strip() == "0"


@pytest.mark.parametrize("way", ["masks", "overrides"])
@pytest.mark.parametrize("how", ["killed", "refused"])
@pytest.mark.parametrize("late", [False, True])
def test_after_a_fault_at_any_write_all_goes_home(way: str, how: str, late: bool) -> None:
    def fault() -> None:
        raise Killed if how == "killed" else OSError(errno.EIO, "by design")

    at = 0
    while True:
        at += 1
        machine = Machine()
        machine.files.texts[POLICY] = f'mechanism = "{way}"\n'
        before = machine.host
        machine.faults.arm(at, fault, late=late)
        try:
            free(machine)
        except (Killed, ApvfioError, OSError):
            pass
        else:
            break
        machine.faults.arm(0, fault)
        machine.dead.add(MDEVCTL.pid)
        reconcile_host(machine)
        assert machine.host == before
        assert machine.ledger == NO_LEASES
    assert at > 2


def test_a_queue_that_does_not_go_to_vfio_ap(machine: Machine) -> None:
    before = machine.host

    def steal() -> None:
        machine.kernel.state.queues[Apqn(0, 1)].driver = "cex4queue"

    # The first write is the ledger's, the second the mask's.
    machine.faults.arm(2, steal, late=True)
    with pytest.raises(ApvfioError, match=r"vfio_ap did not get 00\.0001"):
        free(machine)
    assert not machine.ledger.claims
    assert machine.host.apmask == before.apmask


class TestLedger:
    """Claims on paper."""

    def test_they_are_saved_and_read_back(self, machine: Machine) -> None:
        ledger = NO_LEASES.with_claim(Claim(mdev(1), Matrix(*ROW[:2], IdSet([3])), BY_DOMAINS, MDEVCTL))
        save(machine.files, ledger)
        assert load(machine.files, BOOT) == ledger
        document = json.loads(machine.files.texts[LEDGER])
        assert document["claims"] == [
            {
                "mdev": mdev(1),
                "adapters": "0",
                "domains": "1-2",
                "control_domains": "3",
                "freed_by": "domains",
                "pid": 4242,
                "started": 100,
            }
        ]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("mdev", None),
            ("freed_by", "both"),
            ("adapters", "9-1"),
            ("pid", "1"),
            ("pid", True),
            ("started", None),
        ],
    )
    def test_a_damaged_one_is_refused(self, machine: Machine, key: str, value: object) -> None:
        save(machine.files, NO_LEASES.with_claim(Claim(mdev(1), ROW, BY_DOMAINS, MDEVCTL)))
        document = json.loads(machine.files.texts[LEDGER])
        for broken in ({**document["claims"][0], key: value}, "promise", None):
            document["claims"] = [broken]
            machine.files.texts[LEDGER] = json.dumps(document)
            with pytest.raises(ApvfioError, match="is damaged"):
                load(machine.files, BOOT)

    def test_one_is_told_of_as_long_as_it_lasts(self) -> None:
        ledger = Ledger(BOOT, {}).with_claim(Claim(mdev(1), ROW, BY_DOMAINS, MDEVCTL))
        assert [line for line in drift(a_host(), ledger) if "its start by mdevctl is under way" in line]
        assert ledger.without_claims(mdev(1)) == NO_LEASES


class TestProcess:
    """Processes told apart by /proc."""

    def test_one_that_lives_and_one_that_ended(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        try:
            found = find_process(child.pid)
            assert found is not None
            assert found == find_process(child.pid)
            assert found.pid == child.pid
        finally:
            child.kill()
        # Not yet waited for: it has ended, though its entry is there.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert find_process(child.pid) is None
        child.wait()
        assert find_process(child.pid) is None

    def test_the_parent_is_told(self) -> None:
        code = "from apvfio.store.processes import parent; print(parent().pid)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert int(done.stdout) == os.getpid()
        assert parent() == find_process(os.getppid())

    def test_a_process_without_a_parent_has_none(self) -> None:
        code = (
            "import os, sys, time\n"
            "from apvfio.store.processes import parent\n"
            "me = os.getpid()\n"
            "if not os.fork():\n"
            "    while os.getppid() == me: time.sleep(0.01)\n"
            "    print(os.getppid() == 1, parent() is None, flush=True)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        inherited_by_init, orphan = done.stdout.split()
        assert orphan == inherited_by_init

    def test_a_name_may_hold_anything(self, tmp_path: object) -> None:
        directory = f"{tmp_path}/7"
        os.mkdir(directory)
        fields = " ".join(str(n) for n in range(4, 53))
        with open(f"{directory}/stat", "w", encoding="utf-8") as file:
            file.write(f"7 (a) R 1 (b) S {fields}\n")
        assert find_process(7, str(tmp_path)) == Process(7, 22)
        with open(f"{directory}/stat", "w", encoding="utf-8") as file:
            file.write("nonsense")
        assert find_process(7, str(tmp_path)) is None

    def test_signals_do_not_confuse_it(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        try:
            child.send_signal(signal.SIGSTOP)
            assert find_process(child.pid) is not None
        finally:
            child.kill()
            child.wait()

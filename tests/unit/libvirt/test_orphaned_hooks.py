# SPDX-License-Identifier: Apache-2.0
"""Hooks that outlive the daemon that called them, or have nothing to do when they are called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.kernel.snapshot import read_host
from apvfio.libvirt import hook
from apvfio.model.errors import ApvfioError
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.processes import GRACE, now
from domain_xml import UUID, domain
from hosts import IBM_DOMAINS, a_request
from lab.hook import hook_script
from memory_host import IBM_ADAPTERS, Machine
from skipped_waits import skip_waits


def yes() -> bool:
    return True


def call(machine: Machine, operation: str) -> int:
    return hook.main(["db1", operation, "begin", "-"], machine, domain())


def test_a_start_that_nobody_waits_for_has_nothing() -> None:
    machine = Machine()
    before = machine.snapshot()
    with pytest.raises(ApvfioError, match="guest g1: the program that requested its start has ended"):
        start_guest(machine, a_request("0", "1"), abandoned=yes)
    assert machine.snapshot() == before
    assert machine.sysfs.written == []


def test_reconcile_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1"))
    machine.running = set()
    assert reconcile_host(machine).seen == ()
    monkeypatch.setattr("apvfio.engine.lease_end.now", lambda: now() + GRACE + 1)
    (why,) = reconcile_host(machine).seen
    assert why.startswith("guest g1: it holds queues but does not run")


def test_a_late_release_leaves_a_new_life_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    call(machine, "prepare")
    running = machine.host
    monkeypatch.setattr("apvfio.libvirt.hook.daemon_has_died", yes)
    skip_waits(monkeypatch)
    machine.running = {UUID}
    call(machine, "release")
    assert machine.host == running
    machine.running = set()
    call(machine, "release")
    assert machine.ledger.leases == {}


def test_a_release_of_nothing_does_not_wait_for_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(machine, "lock", None)
    assert call(machine, "release") == 0
    assert machine.files.texts == {}


@pytest.mark.parametrize("alive", [True, False])
def test_the_hook_sees_that_nobody_listens(tmp_path: Path, alive: bool) -> None:
    path = str(tmp_path / "host.json")
    create_sim(path, SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    script = tmp_path / "50-apvfio"
    script.write_text(hook_script())
    script.chmod(0o755)
    listener, mouth = os.pipe()
    with subprocess.Popen(
        [script, "db1", "prepare", "begin", "-"],
        stdin=subprocess.PIPE,
        stderr=mouth,
        env={"APVFIO_SIM": path, "PATH": os.environ["PATH"]},
    ) as process:
        os.close(mouth)
        if not alive:
            os.close(listener)
        process.communicate(domain(), timeout=60)
    if alive:
        os.close(listener)
    assert (process.returncode == 0) == alive
    with open_sim(path) as system:
        assert bool(read_host(system.sysfs).mdevs) == alive

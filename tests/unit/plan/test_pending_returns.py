# SPDX-License-Identifier: Apache-2.0
"""Who holds up which pending return."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.kernel.snapshot import read_host
from apvfio.plan.pending_returns import pending_returns
from apvfio.sim.kernel import SimKernel
from apvfio.sim.profile import PROFILES
from apvfio.store.ledger_file import load
from hosts import a_matrix, a_request, guest, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path


def pending(host: SimulatedHost) -> dict[str, list[str]]:
    """Each with who holds it."""
    with host.opened() as system:
        found = pending_returns(read_host(system.sysfs), load(system.files, system.boot_id))
    return {str(one): list(map(str, one.holders)) for one in found}


def reconciled(host: SimulatedHost, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    host.run("reconcile", *words)
    out = capsys.readouterr().out
    return json.loads(out) if "--json" in words else out


@pytest.mark.parametrize("version", PROFILES)
def test_a_guest_that_needs_the_bits(tmp_path: Path, version: str) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(version))
    host.start(a_request("0", "1-2"))
    assert pending(host) == {"apmask 0": ["guest g1"]}
    host.start(a_request("10", "1,2,4,27", n=2))
    assert pending(host) == {"apmask 0": ["guest g1"], "apmask 10": ["guest g2"]}


def test_a_guests_own_device_stands_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From 7.0 on no bit is set while a device has the id, though its guest needs the other mask alone."""
    host = SimulatedHost(tmp_path, SimKernel.new("7.2"))
    host.start(a_request("0-1", "1", n=1))  # by its domain
    host.start(a_request("0", "2,4,27", n=2))  # by its adapter
    with host.opened() as system:
        ways = {lease.guest: lease.freed_by for lease in load(system.files, system.boot_id).leases.values()}
    assert ways == {"g1": "domains", "g2": "adapters"}
    host.run("release", guest(2))
    assert pending(host) == {"apmask 0": ["guest g1"], "aqmask 1": ["guest g1"]}
    assert "still pending: apmask 0 (held by guest g1)\n" in reconciled(host, capsys)
    assert "would still be pending: apmask 0 (held by guest g1)\n" in reconciled(host, capsys, "-n")
    (held,) = reconciled(host, capsys, "--json")["pending_returns"]
    owner = {"kind": "guest", "name": "g1", "mdev": mdev(1)}
    assert held == {"attribute": "apmask", "ids": "0", "held_by": [owner]}
    host.run("release", guest(1))
    assert pending(host) == {}


def test_somebody_elses_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new("7.2"))
    host.start(a_request("0,10", "1-2"))  # by its domains
    host.make_mdev(mdev(9), a_matrix("1", "1"))
    host.run("release", guest(1))
    assert pending(host) == {"aqmask 1": [f"mdev {mdev(9)}"]}
    device = f"the mediated device {mdev(9)}, which is not apvfio's"
    assert reconciled(host, capsys).endswith(f"aqmask 1 (held by {device})\n")


def test_nobody_holds_what_the_next_call_returns(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new("7.2"))
    host.start(a_request("0", "1-2"))
    host.make_mdev(mdev(9), a_matrix("0", "27"))
    host.run("release", guest(1))
    host.write(f"sys/bus/mdev/devices/{mdev(9)}/remove", "1")
    assert pending(host) == {"apmask 0": []}


def test_overrides(tmp_path: Path) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new("7.2"))
    host.run("mechanism", "overrides")
    host.start(a_request("0", "1-2"))
    assert pending(host) == {"the driver_override of 00.0001, 00.0002": ["guest g1"]}

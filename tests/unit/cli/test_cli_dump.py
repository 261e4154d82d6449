# SPDX-License-Identifier: Apache-2.0
"""apvfio dump: the copy looks like the host, and behaves like it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.kernel.snapshot import read_host
from apvfio.model import persistent_masks
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn
from apvfio.sim.dump import simulated
from apvfio.sim.host_file import open_sim
from apvfio.sim.kernel import SimKernel
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost
from skipped_waits import skip_waits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFINITION = f"etc/mdevctl.d/matrix/{mdev(4)}"


def commands(path: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What every command that looks prints about the host in ``path``."""
    printed = []
    for words in (["status", "--json"], ["queues"], ["queues", "--json"], ["masks"]):
        assert main(["--sim", path, *words]) == 0
        printed.append(capsys.readouterr().out)
    return printed


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """IBM's host in the middle of its life."""
    host = SimulatedHost(tmp_path, SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11", 11: "cca"}))
    host.run("masks", "aqmask=-27")
    host.start(a_request("0,10", "1,2,4"))
    host.make_mdev(mdev(2), a_matrix("1", "27")._replace(control_domains=IdSet([4])))
    with host.opened() as system:
        system.kernel.attach_guest(mdev(1), "g1")
        system.kernel.configure(11, configured=False)
    host.write("sys/bus/ap/devices/01.0001/online", "0")
    host.write("sys/bus/ap/drivers/cex4queue/unbind", "01.0002")
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["01.0001"]\n')
    host.write(DEFINITION, "{}")
    return host


def test_the_copy_looks_like_the_host(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = str(tmp_path / "copy.json")
    capsys.readouterr()
    assert host.run("dump", copy) == 0
    assert capsys.readouterr().out == f"{copy}: 16 queues, 2 mediated devices\n"
    assert commands(copy, capsys) == commands(host.path, capsys)
    with open_sim(copy) as system:
        assert system.files.read("etc/apvfio/apvfio.toml") == '[reserve]\nqueues = ["01.0001"]\n'
        assert system.files.read(DEFINITION) == "{}"
        assert system.tree.file(persistent_masks.RULE).mode == 0o644


def test_the_copy_behaves_like_the_host(
    host: SimulatedHost,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skip_waits(monkeypatch)
    copy = str(tmp_path / "copy.json")
    host.run("dump", copy)
    capsys.readouterr()
    for words in (
        ["masks", "-a", "apmask=+0"],  # held by the guest
        ["masks", "-a", "aqmask=+27"],  # held by the other device
        ["masks", "-a", "apmask=-1"],  # reserved
        ["release", "g1"],  # in use
    ):
        results = []
        for path in (host.path, copy):
            code = main(["--sim", path, *words])
            results.append((code, capsys.readouterr()))
        assert results[0] == results[1]
        assert results[0][0] in (3, 4)


def test_planning_on_the_copy_leaves_the_host_alone(host: SimulatedHost, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.json")
    host.run("dump", copy)
    before = (tmp_path / "host.json").read_text()
    assert main(["--sim", copy, "release", "--force", "--yes", "g1"]) == 0
    with open_sim(copy) as system:
        assert read_host(system.sysfs).apmask == IdSet(range(256))
    assert (tmp_path / "host.json").read_text() == before


def test_an_existing_file_is_kept_unless_forced(
    host: SimulatedHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.json"
    copy.write_text("mine")
    assert host.run("dump", str(copy)) == 6
    assert "copy.json exists" in capsys.readouterr().err
    assert copy.read_text() == "mine"
    assert host.run("dump", "--force", str(copy)) == 0
    assert json.loads(copy.read_text())["format"] == "apvfio-sim"


def test_a_damaged_ledger_is_not_dumped_over(host: SimulatedHost, tmp_path: Path) -> None:
    host.write("run/apvfio/ledger.json", "{")
    assert host.run("dump", str(tmp_path / "copy.json")) == 1
    assert not (tmp_path / "copy.json").exists()


def override(kernel: SimKernel) -> None:
    kernel.write("bus/ap/devices/0a.0001/driver_override", "vfio_ap")
    kernel.write("bus/ap/drivers/cex4queue/unbind", "0a.0001")
    kernel.write("bus/ap/drivers_probe", "0a.0001")


def big_mdev(kernel: SimKernel) -> None:
    kernel.write("bus/ap/apmask", "-0-10")
    kernel.write(AP_MDEVS.create, mdev(1))
    matrix = a_matrix("0-10", "0-84")
    for kind, ids in zip(("adapter", "domain"), matrix):
        for i in ids:
            kernel.write(f"{AP_MDEVS.device(mdev(1))}/assign_{kind}", str(i))


def over_provisioned(kernel: SimKernel) -> None:
    kernel.write("bus/ap/apmask", "-0,-1")
    kernel.write(AP_MDEVS.create, mdev(1))
    for name, i in (("adapter", 0), ("domain", 1), ("adapter", 1), ("domain", 2)):
        kernel.write(f"{AP_MDEVS.device(mdev(1))}/assign_{name}", str(i))
    for control_domain in ("1", "200"):  # the host has the first alone
        kernel.write(f"{AP_MDEVS.device(mdev(1))}/assign_control_domain", control_domain)
    kernel.write("bus/ap/drivers/vfio_ap/unbind", "01.0001")
    kernel.write("bus/ap/ap_domain", "4")


def without_zcrypt(kernel: SimKernel) -> None:
    kernel.unload("zcrypt_cex4")


@pytest.mark.parametrize(
    ("profile", "prepare"),
    [
        ("7.2", override),
        ("7.2", over_provisioned),
        ("7.2", without_zcrypt),
        ("6.12", over_provisioned),
        ("6.1", over_provisioned),
    ],
)
def test_the_kernels_tree_is_the_same(profile: str, prepare: Callable[[SimKernel], None]) -> None:
    kernel = SimKernel.new(profile)
    prepare(kernel)
    copy = simulated(kernel, read_host(kernel))
    assert copy.state.profile == profile
    # Counters that grow with time are not copied: what a guest or the host can have is.
    for state in (kernel.state, copy.state):
        state.scans = state.complete_count = 0
        state.complete = False
    assert copy.to_json() == kernel.to_json()


def test_a_device_too_big_to_be_read_is_taken_as_assigned() -> None:
    kernel = SimKernel.new("6.12", adapters=dict.fromkeys(range(11), "cca"), domains=IdSet(range(85)))
    big_mdev(kernel)
    copy = simulated(kernel, read_host(kernel))
    assert copy.state.mdevs == kernel.state.mdevs


def test_a_host_without_vfio_ap() -> None:
    kernel = SimKernel.new("6.12", vfio_ap=False)
    copy = simulated(kernel, read_host(kernel))
    assert (copy.state.profile, copy.state.modules) == ("6.12", kernel.state.modules)


def test_a_queue_that_the_host_lacks_is_lacking() -> None:
    kernel = SimKernel.new()
    del kernel.state.queues[Apqn(1, 27)]
    copy = simulated(kernel, read_host(kernel))
    assert list(copy.state.queues) == list(kernel.state.queues)


def test_a_queue_that_comes_while_the_host_is_read_is_left_out() -> None:
    kernel = SimKernel.new()
    host = read_host(kernel)
    kernel.plug_adapter(11, "cca")
    copy = simulated(kernel, host)
    assert list(copy.state.queues) == list(host.drivers)


def test_a_host_with_no_files_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = SimulatedHost(tmp_path)
    copy = str(tmp_path / "copy.json")
    assert host.run("dump", copy) == 0
    assert capsys.readouterr().out == f"{copy}: 12 queues, 0 mediated devices\n"
    with open_sim(copy) as system:
        assert system.files.read("etc/apvfio/apvfio.toml") is None


def test_an_unknown_card_passes_for_a_coprocessor(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimKernel.new()
    real = kernel.read
    odd = {"devices/ap/card00/ap_functions": "0x00000000\n", "bus/ap/ap_usage_domain_mask": "not supported\n"}
    monkeypatch.setattr(kernel, "read", lambda path: odd.get(path) or real(path))
    copy = simulated(kernel, read_host(kernel))
    assert copy.state.hardware.adapters == {0: "cca", 1: "cca", 10: "ep11"}
    assert copy.state.hardware.domains == kernel.state.hardware.domains

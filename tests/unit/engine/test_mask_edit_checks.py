# SPDX-License-Identifier: Apache-2.0
"""apvfio masks: what must not be is refused, before the first write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.snapshot import read_host
from apvfio.model import persistent_masks
from apvfio.model.ids import NO_IDS
from apvfio.sim.kernel import SimKernel
from apvfio.store.ledger_file import load
from hosts import a_matrix, a_request, mdev
from simulated_host import SimulatedHost

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "etc/apvfio/apvfio.toml"


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def masks(host: SimulatedHost) -> tuple[str, str]:
    with host.opened() as system:
        return system.sysfs.read("bus/ap/apmask").strip(), system.sysfs.read("bus/ap/aqmask").strip()


@pytest.mark.parametrize(("profile", "code"), [("7.2", 3), ("6.12", 0), ("6.1", 0)])
def test_a_bit_that_only_7_2_refuses(
    tmp_path: Path, profile: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # Both masks keep 00.0001 from the host: one of them may be set, says every kernel before 7.
    host = SimulatedHost(tmp_path, SimKernel.new(profile))
    host.run("masks", "-a", "apmask=-0", "aqmask=-1")
    host.make_mdev(mdev(3), a_matrix("0", "1"))
    capsys.readouterr()
    assert host.run("masks", "-a", "apmask=+0") == code
    if code:
        assert capsys.readouterr().err == (
            f"apvfio: apmask 0 (00) cannot return to the host: the mediated device {mdev(3)} holds 00.0001. "
            "Stop the guest or remove the mediated device first.\n"
        )
    assert (masks(host)[0][2] == "7") == bool(code)


@pytest.mark.parametrize("profile", ["7.2", "6.12"])
def test_bits_that_every_kernel_refuses(
    tmp_path: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host = SimulatedHost(tmp_path, SimKernel.new(profile))
    host.run("masks", "-a", "apmask=-0", "aqmask=-1")
    host.make_mdev(mdev(3), a_matrix("0", "1-2"))
    before = masks(host)
    for words in (["apmask=+0"], ["apmask=+0", "aqmask=+1"]):
        capsys.readouterr()
        assert host.run("masks", "--json", *words) == 3
        error = json.loads(capsys.readouterr().out)
        assert error["error"]["kind"] == "conflict"
        assert mdev(3) in error["error"]["message"]
        assert "00.0002" in error["error"]["queues"]
        assert (masks(host), host.read(persistent_masks.RULE)) == (before, None)


def test_on_6_12_bits_swap_places_for_a_device(tmp_path: Path) -> None:
    # 00.0001 is kept by apmask alone; clearing aqmask first lets apmask go back.
    host = SimulatedHost(tmp_path, SimKernel.new("6.12"))
    host.run("masks", "-a", "apmask=-0")
    host.make_mdev(mdev(3), a_matrix("0", "1"))
    assert host.run("masks", "-a", "apmask=+0", "aqmask=-1") == 0
    assert [mask[2] for mask in masks(host)] == ["f", "b"]


def test_one_dimension_of_a_device_holds_nothing(host: SimulatedHost) -> None:
    host.run("masks", "-a", "apmask=-0")
    host.make_mdev(mdev(3), a_matrix("0", "1")._replace(domains=NO_IDS))
    assert host.run("masks", "-a", "apmask=+0") == 0


def test_a_lease_keeps_its_bits(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.start(a_request("0,10", "1,2,4"))
    assert host.run("masks", "-a", "apmask=+10,+0") == 3
    assert "apmask 0,10 (00, 0a) cannot return to the host: guest g1 holds 00.0001" in capsys.readouterr().err
    # A lease whose device somebody has removed is over, and its bits are the host's again.
    host.write(f"sys/devices/vfio_ap/matrix/{mdev(1)}/remove", "1")
    assert host.run("masks", "-a", "apmask=+10") == 0
    with host.opened() as system:
        assert not load(system.files, system.boot_id).leases
        assert 10 in read_host(system.sysfs).apmask


def test_a_lease_freed_by_domains_keeps_those(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.start(a_request("0,1,10", "1"))
    assert host.run("masks", "-a", "aqmask=0-255") == 3
    assert "aqmask 1 (0001) cannot return to the host: guest g1 holds" in capsys.readouterr().err


def test_a_guest_is_named_beside_its_device(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.run("masks", "-a", "aqmask=-1")
    host.start(a_request("0", "1"))
    assert host.run("masks", "-a", "apmask=-0") == 0
    assert "apmask 0 (00) cannot be set again before the mediated device" in capsys.readouterr().err
    assert host.run("masks", "-a", "apmask=+0") == 3
    assert f"the mediated device {mdev(1)} of guest g1 holds 00.0001" in capsys.readouterr().err


@pytest.mark.parametrize("scope", ["-a", "-p"])
@pytest.mark.parametrize(
    "reserve",
    ['queues = ["01.001b"]', 'adapters = "1"', 'domains = "0x1b"', 'queues = ["01.00fe", "01.001b"]'],
)
def test_reserved_queues_stay_with_the_host(
    host: SimulatedHost, scope: str, reserve: str, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(POLICY, f"[reserve]\n{reserve}\n")
    before = masks(host)
    assert host.run("masks", scope, "apmask=-1", "aqmask=-0x1b") == 4
    err = capsys.readouterr().err
    assert "01.001b" in err
    assert "for which the policy reserves" in err
    assert (masks(host), host.read(persistent_masks.RULE)) == (before, None)


def test_a_reserved_queue_may_come_back(host: SimulatedHost) -> None:
    host.run("masks", "-a", "apmask=-1")
    host.write(POLICY, '[reserve]\nadapters = "1"\n')
    assert host.run("masks", "-a", "apmask=+1") == 0


def test_overrides_shut_the_masks(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("sys/bus/ap/devices/0a.0001/driver_override", "vfio_ap")
    assert host.run("masks", "-a", "apmask=-1") == 5
    assert "driver_override is set for 0a.0001, and while any is set" in capsys.readouterr().err
    assert host.run("masks", "-p", "apmask=-1") == 0


def test_a_host_that_is_to_use_overrides_is_warned_of(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.write(POLICY, 'mechanism = "overrides"\n')
    assert host.run("masks", "-a", "apmask=-20") == 0
    assert "the kernel refuses them until all mask bits are set" in capsys.readouterr().err
    # It is shut now: no news.
    assert host.run("masks", "-a", "apmask=-21") == 0
    assert "shut" not in capsys.readouterr().err


def definition(**changes: object) -> str:
    attrs = [{"assign_adapter": "0x0a"}, {"assign_domain": "1,0x4"}, {"assign_control_domain": "1"}]
    return json.dumps({"mdev_type": "vfio_ap-passthrough", "start": "auto", "attrs": attrs} | changes)


def test_a_device_that_starts_at_boot_keeps_its_queues(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.run("masks", "-p", "apmask=1-9", "aqmask=0-255")
    host.write(f"etc/mdevctl.d/matrix/{mdev(4)}", definition())
    host.write("etc/mdevctl.d/matrix/notes", definition())
    before = host.read(persistent_masks.RULE)
    assert host.run("masks", "-p", "apmask=+10") == 3
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"apvfio: mdevctl's definition {mdev(4)} starts at boot and needs 0a.0001, 0a.0004, which the stored "
        "masks would leave to the host. Change the definition first."
    )
    assert host.read(persistent_masks.RULE) == before
    # Bits that are no news, or go to nobody's queues, are none of its business.
    assert host.run("masks", "-p", "apmask=+11", "aqmask=-1") == 0
    assert host.run("masks", "-p", "aqmask=-4") == 0
    assert host.run("masks", "-p", "apmask=+10") == 0


@pytest.mark.parametrize(
    "text",
    [
        definition(start="manual"),
        definition(mdev_type="i915"),
        definition(attrs=[{"assign_adapter": "0xa"}]),
        definition(attrs=[{"assign_adapter": "ten"}, {"assign_domain": "1"}]),
        definition(attrs="0xa"),
        definition(attrs=[{"assign_adapter": 10}, {"assign_domain": 1}]),
        "[]",
        "{",
        "[" * 100_000,
    ],
)
def test_other_definitions_do_not_count(host: SimulatedHost, text: str) -> None:
    host.run("masks", "-p", "apmask=1-9", "aqmask=0-255")
    host.write(f"etc/mdevctl.d/matrix/{mdev(4)}", text)
    assert host.run("masks", "-p", "apmask=+10") == 0


def test_a_definition_may_be_three_masks(host: SimulatedHost) -> None:
    host.run("masks", "-p", "apmask=1-9", "aqmask=0-255")
    config = a_matrix("10", "1").as_ap_config()
    host.write(f"etc/mdevctl.d/matrix/{mdev(4)}", definition(attrs=[{"ap_config": config}]))
    assert host.run("masks", "-p", "apmask=+10") == 3

# SPDX-License-Identifier: Apache-2.0
"""``apvfio mechanism``: what is in use, why, and switching a host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.kernel.snapshot import read_host
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.sim.host_file import create_sim, open_sim
from apvfio.sim.kernel import SimKernel
from hosts import IBM_DOMAINS, a_matrix, mdev
from memory_host import IBM_ADAPTERS

if TYPE_CHECKING:
    from pathlib import Path


def a_sim(tmp_path: Path, profile: str = "7.2") -> str:
    path = str(tmp_path / f"{profile}.json")
    create_sim(path, SimKernel.new(profile, adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    return path


def write(sim: str, path: str, text: str) -> None:
    with open_sim(sim) as system:
        system.sysfs.write(path, text)


def shown(sim: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["--sim", sim, "mechanism", *words]) == Exit.OK
    return capsys.readouterr().out


def state(sim: str) -> dict[str, str | None]:
    with open_sim(sim) as system:
        queues = [name for name in system.sysfs.list("bus/ap/devices") if "." in name]
        return {
            **{name: system.sysfs.read(f"bus/ap/{name}") for name in ("apmask", "aqmask")},
            **{str(queue): driver for queue, driver in read_host(system.sysfs).drivers.items()},
            **{f"{n} override": system.sysfs.read(f"bus/ap/devices/{n}/driver_override") for n in queues},
        }


@pytest.mark.parametrize("target", ["overrides", "masks"])
@pytest.mark.parametrize(
    "writes",
    [
        [],
        [("apmask", "-0,-10")],
        [("aqmask", "-27")],
        [("devices/00.0001/driver_override", "vfio_ap")],
        [
            ("devices/00.0001/driver_override", "vfio_ap"),
            ("drivers/cex4queue/unbind", "00.0001"),
            ("drivers_probe", "00.0001"),
        ],
    ],
)
def test_a_dry_run_says_what_the_switch_will_do(
    writes: list[tuple[str, str]], target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = a_sim(tmp_path)
    for path, text in writes:
        write(sim, f"bus/ap/{path}", text)
    before = state(sim)
    lines = shown(sim, capsys, target, "--dry-run").splitlines()
    foretold = json.loads(shown(sim, capsys, target, "-n", "--json"))
    assert state(sim) == before
    done = json.loads(shown(sim, capsys, target, "--json"))
    assert (foretold["dry_run"], done["dry_run"]) == (True, False)
    assert foretold["change"] == done["change"]
    assert all(line.startswith(("would ", "'apvfio mechanism masks'")) for line in lines)
    assert (lines == [f"would switch to {target}, which changes no mask and no queue"]) == (
        state(sim) == before
    )


def test_a_dry_run_is_refused_as_the_switch_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = a_sim(tmp_path)
    assert main(["--sim", sim, "mechanism", "-n"]) == Exit.USAGE
    assert "--dry-run requires a change to make" in capsys.readouterr().err
    write(sim, "bus/ap/apmask", "-0")
    write(sim, AP_MDEVS.create, mdev(1))
    assert main(["--sim", sim, "mechanism", "overrides", "-n"]) == Exit.CONFLICT
    assert f"the mediated device {mdev(1)} exists" in capsys.readouterr().err


def test_a_host_is_switched_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = a_sim(tmp_path)
    assert shown(sim, capsys).startswith("masks: nothing is in use; chzdev,")
    write(sim, "bus/ap/apmask", "-3,-5")
    assert shown(sim, capsys) == (
        "masks: clear mask bits: apmask 3,5 (03, 05); while any is clear, the kernel refuses "
        "driver_override\n"
    )
    *changes, mode = shown(sim, capsys, "overrides").splitlines()
    assert changes == [
        "set apmask 3,5 (03, 05), which was clear",
        "'apvfio mechanism masks' does not clear these bits again; 'apvfio masks --active apmask=-3,-5' does",
    ]
    assert mode.startswith("overrides: chosen with 'apvfio mechanism'")
    write(sim, "bus/ap/devices/00.0001/driver_override", "vfio_ap")
    assert (
        shown(sim, capsys) == "overrides: driver_override is set for 00.0001, and while any is set, "
        "the kernel refuses mask changes\n"
    )
    assert shown(sim, capsys, "masks").splitlines()[0] == "cleared the driver_override of 00.0001"
    with open_sim(sim) as system:
        assert system.sysfs.read("bus/ap/devices/00.0001/driver_override") == "\n"
        assert system.sysfs.readlink("bus/ap/devices/00.0001/driver").endswith("cex4queue")


def test_a_host_with_a_device_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = a_sim(tmp_path)
    write(sim, "bus/ap/apmask", "-0")
    write(sim, AP_MDEVS.create, mdev(1))
    write(sim, f"{AP_MDEVS.device(mdev(1))}/ap_config", a_matrix("0", "1").as_ap_config())
    assert main(["--sim", sim, "mechanism", "overrides"]) == Exit.CONFLICT
    assert f"the mediated device {mdev(1)} exists" in capsys.readouterr().err
    assert shown(sim, capsys, "masks").startswith("masks: clear mask bits: apmask 0 (00);")


def test_an_older_kernel_has_masks_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = a_sim(tmp_path, "6.12")
    facts = json.loads(shown(sim, capsys, "--json"))
    assert facts == {
        "mechanism": "masks",
        "reason": "this kernel has no driver_override for AP queues",
        "overrides_possible": False,
        "dry_run": False,
        "change": None,
    }
    assert main(["--sim", sim, "mechanism", "overrides"]) == Exit.HOST
    assert "Stay with masks" in capsys.readouterr().err


def test_the_policy_prefers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = a_sim(tmp_path)
    with open_sim(sim) as system:
        system.files.write("etc/apvfio/apvfio.toml", 'mechanism = "overrides"\n')
    assert shown(sim, capsys) == "overrides: the policy prefers it; nothing is in use\n"


def test_a_switch_says_what_moves_and_what_is_forgotten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = a_sim(tmp_path)
    assert main(["--sim", sim, "masks", "--active", "apmask=-0,-10", "aqmask=-27"]) == Exit.OK
    capsys.readouterr()
    *changes, restore, _ = shown(sim, capsys, "overrides").splitlines()
    assert changes == [
        "set apmask 0,10 (00, 0a), which was clear",
        "set aqmask 27 (001b), which was clear",
        "moved 9 queues to another driver: 00.0001, 00.0002, 00.0004, 00.001b, 01.001b, 0a.0001, 0a.0002, "
        "0a.0004 and 1 more",
    ]
    assert shown(sim, capsys, "masks") == (
        "masks: chosen with 'apvfio mechanism' for this boot; nothing is in use\n"
    )
    command = restore.split("'")[3].split()
    assert main(["--sim", sim, *command[1:]]) == Exit.OK
    capsys.readouterr()
    assert shown(sim, capsys) == (
        "masks: clear mask bits: apmask 0,10 (00, 0a) and aqmask 27 (001b); while any is clear, the "
        "kernel refuses driver_override\n"
    )
    assert main(["--sim", sim, "log", "--json"]) == Exit.OK
    said = [event["message"] for event in json.loads(capsys.readouterr().out)]
    assert "masks changed by hand: apmask +0,+10; aqmask +27, by 'apvfio mechanism overrides'" in said


def test_a_switch_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sim = a_sim(tmp_path)
    write(sim, "bus/ap/apmask", "-1")
    changed = json.loads(shown(sim, capsys, "overrides", "--json"))["change"]
    moved = ["01.0001", "01.0002", "01.0004", "01.001b"]
    assert changed == {"apmask": "1", "aqmask": "", "overrides": {}, "moved": moved}

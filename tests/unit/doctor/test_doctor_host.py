# SPDX-License-Identifier: Apache-2.0
"""Hosts broken for the purpose: the doctor names that fault first, and its commands repair it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.model.ids import IdSet
from apvfio.sim.kernel import SimKernel
from apvfio.store import ledger_file
from doctor_env import Patient, faults, patient
from hosts import a_matrix, a_request, mdev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUS = "sys/bus/ap"
UUID = mdev(9)


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Patient]:
    with patient(tmp_path, capsys) as made:
        yield made


def test_nothing_is_wrong_with_a_healthy_host(host: Patient) -> None:
    code, checks = host.examined()
    assert (code, faults(checks)) == (0, [])
    host.define("db1", a_matrix("0,10", "1-2"))
    host.start(a_request("1", "4", 2))
    code, checks = host.examined("db1")
    assert (code, faults(checks)) == (0, [])
    assert checks[-1]["message"].startswith(
        "a start gives it 4 queues (adapters 0,10, domains 1-2), freed by"
    )
    assert "\nNo problems found: nothing keeps guest db1 from its queues.\n" in host.text("db1")


def test_nothing_is_changed(host: Patient) -> None:
    host.define("db1", a_matrix("0,10", "1-2"))
    host.start(a_request("1", "4", 2))
    with open(host.path, encoding="utf-8") as file:
        before = file.read()
    host.examined()
    host.examined("db1")
    with open(host.path, encoding="utf-8") as file:
        assert file.read() == before


def without_bus(host: Patient) -> None:
    with host.opened() as system:
        for module in ("vfio_ap", "zcrypt_cex4", "zcrypt", "ap"):
            system.kernel.unload(module)


def without_vfio_ap(host: Patient) -> None:
    with host.opened() as system:
        system.kernel.unload("vfio_ap")


def without_host_driver(host: Patient) -> None:
    with host.opened() as system:
        system.kernel.unload("zcrypt_cex4")


def not_scanned(host: Patient) -> None:
    with host.opened() as system:
        for adapter in (0, 1, 10):
            system.kernel.unplug_adapter(adapter)
        # The hardware has changed, and nothing has told the bus.
        system.kernel.state.hardware.adapters.update({0: "accel", 1: "cca"})


def without_autoprobe(host: Patient) -> None:
    host.write(f"{BUS}/drivers_autoprobe", "0")


def unbound(host: Patient) -> None:
    host.write(f"{BUS}/drivers/cex4queue/unbind", "01.0002")


def override_left(host: Patient) -> None:
    host.write(f"{BUS}/devices/01.0002/driver_override", "vfio_ap")
    host.write(f"{BUS}/drivers/cex4queue/unbind", "01.0002")
    host.write(f"{BUS}/drivers_probe", "01.0002")


def override_misspelt(host: Patient) -> None:
    host.write(f"{BUS}/devices/01.0002/driver_override", "vfio-ap")
    host.write(f"{BUS}/drivers/cex4queue/unbind", "01.0002")


def mechanism_not_as_asked(host: Patient) -> None:
    host.write("etc/apvfio/apvfio.toml", 'mechanism = "overrides"\n')
    host.write("etc/udev/rules.d/41-ap.rules", 'ATTR{../../bus/ap/apmask}="0x' + "f" * 61 + '7ff"\n')
    host.write(f"{BUS}/apmask", "-244")


def device_gone(host: Patient) -> None:
    host.start(a_request("0", "1"))
    host.write(f"sys/{AP_MDEVS.remove(mdev(1))}", "1")


def card_off(host: Patient) -> None:
    host.write(f"{BUS}/devices/card0a/config", "0")


def card_offline(host: Patient) -> None:
    host.write(f"{BUS}/devices/card01/online", "0")


def foreign_device(host: Patient) -> None:
    host.write(f"{BUS}/apmask", "-0xa")
    host.make_mdev(UUID, a_matrix("10", "1"))
    # What its maker stored is not in question.
    assert host.run("masks", "--persistent", "apmask=0-9,11-255") == 0


def masks_left(host: Patient) -> None:
    host.write(f"{BUS}/apmask", "-1,-10")


def stored_otherwise(host: Patient) -> None:
    assert host.run("masks", "--persistent", "aqmask=0-3,5-255") == 0


BROKEN: list[tuple[Callable[[Patient], None], str, int]] = [
    (without_bus, "ap-bus", Exit.HOST),
    (without_vfio_ap, "vfio-ap", Exit.HOST),
    (not_scanned, "adapters", Exit.HOST),
    (without_host_driver, "drivers", Exit.OK),
    (without_autoprobe, "drivers", Exit.OK),
    (unbound, "drivers", Exit.OK),
    (override_left, "overrides", Exit.OK),
    (override_misspelt, "overrides", Exit.OK),
    (mechanism_not_as_asked, "mechanism", Exit.OK),
    (device_gone, "drift", Exit.OK),
    (card_off, "cards", Exit.OK),
    (card_offline, "cards", Exit.OK),
    (foreign_device, "foreign-devices", Exit.OK),
    (masks_left, "masks", Exit.OK),
    (stored_otherwise, "stored-masks", Exit.OK),
]


@pytest.mark.parametrize(
    ("break_it", "name", "code"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_it_is_named_first_and_repaired(
    host: Patient, break_it: Callable[[Patient], None], name: str, code: int
) -> None:
    break_it(host)
    found, checks = host.examined()
    first = faults(checks)[0]
    assert (found, first["id"]) == (code, name), faults(checks)
    assert first["message"]
    assert first["remedy"]
    assert first["commands"]
    for _ in range(3):
        todo = faults(host.examined()[1])
        if not todo:
            break
        for command in todo[0]["commands"]:
            host.carry_out(command)
    assert host.examined()[0] == 0
    assert faults(host.examined()[1]) == []


def test_a_driver_that_is_not_loaded_hides_nothing_else(host: Patient) -> None:
    host.define("db1", a_matrix("0", "1"))
    without_vfio_ap(host)
    code, checks = host.examined("db1")
    assert (code, [fault["commands"] for fault in faults(checks)]) == (Exit.HOST, [["modprobe vfio_ap"]])
    assert checks[-1]["message"].endswith(", once vfio_ap is loaded")
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nadapters = "0"\n')
    assert [fault["id"] for fault in faults(host.examined("db1")[1])] == ["vfio-ap", "refused"]


def test_both_mechanisms_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Masks of the boot do not shut the overrides, and then an override shuts the masks."""
    kernel = SimKernel.new(apmask="+0-9,+11-255")
    with patient(tmp_path, capsys, kernel) as host:
        host.write(f"{BUS}/devices/01.0002/driver_override", "vfio_ap")
        code, checks = host.examined()
        fault = faults(checks)[0]
        assert (code, fault["id"], fault["queues"]) == (Exit.HOST, "mechanism", ["01.0002"])
        with pytest.raises(OSError, match="Invalid argument"):
            host.write(f"{BUS}/apmask", "-1")
        for command in fault["commands"]:
            host.carry_out(command)
        host.write(f"{BUS}/apmask", "-1")
        assert host.examined()[0] == 0


def test_a_partition_without_queues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with patient(tmp_path, capsys, SimKernel.new(adapters={})) as host:
        code, checks = host.examined()
        assert (code, faults(checks)[0]["id"]) == (Exit.HOST, "adapters")
        assert "HMC" in faults(checks)[0]["remedy"]
        with host.opened() as system:
            system.kernel.plug_adapter(3, "cca")
        assert host.examined()[0] == 0


def test_a_reserved_queue_that_is_not_there(host: Patient) -> None:
    host.write("etc/apvfio/apvfio.toml", '[reserve]\nqueues = ["05.0001"]\n')
    code, checks = host.examined()
    assert (code, [c["id"] for c in faults(checks)]) == (0, ["policy"])
    assert faults(checks)[0]["queues"] == ["05.0001"]


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("etc/apvfio/apvfio.toml", "[reserve\n", "policy"),
        ("etc/apvfio/apvfio.toml", "[reserve]\nqueues = 1\n", "policy"),
        ("run/apvfio/ledger.json", "{", "ledger"),
        ("run/apvfio/ledger.json", '{"version": 99}', "ledger"),
        ("etc/udev/rules.d/41-ap.rules", 'ATTR{../../bus/ap/apmask}="junk"\n', "stored-masks"),
    ],
)
def test_files_that_cannot_be_used(host: Patient, path: str, text: str, name: str) -> None:
    host.define("db1", a_matrix("0", "1"))
    host.write(path, text)
    for words in ([], ["db1"]):
        code, checks = host.examined(*words)
        first = faults(checks)[0]
        assert (first["id"], bool(first["commands"])) == (name, "99" not in text)
        assert (code != 0) is (name != "stored-masks")
        assert checks[-1]["state"] == ("skipped" if code else "ok")


def test_a_pending_return_that_is_due(host: Patient) -> None:
    host.write(f"{BUS}/apmask", "-10")
    with host.opened() as system:
        ledger = ledger_file.load(system.files, system.boot_id)
        bits = ledger.pending._replace(apmask=IdSet([10]))
        ledger_file.save(system.files, ledger._replace(pending=bits))
    (fault,) = faults(host.examined()[1])
    assert (fault["id"], "is a pending return" in fault["message"]) == ("drift", True)
    for command in fault["commands"]:
        host.carry_out(command)
    assert faults(host.examined()[1]) == []


def test_a_check_that_fails_is_a_finding(host: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of all things")

    for where in (
        "checks.kernel.mechanism_of",
        "collect.store.read_policy",
        "collect.kernel.has_boot_masks",
        "collect.guests.parse_xml",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"apvfio.doctor.{where}", broken)
            host.define("db1", a_matrix("0", "1"))
            checks = host.examined("db1")[1]
            failed = [check for check in checks if check["id"] == "check-failed"]
            assert all("of all things" in check["message"] for check in failed)
            assert failed
            assert len(checks) > 3


def test_the_text_has_each_fault_and_its_commands(host: Patient) -> None:
    without_vfio_ap(host)
    card_off(host)
    text = host.text()
    assert "PROBLEM" in text
    assert "        modprobe vfio_ap\n" in text
    assert "        echo 1 > /sys/bus/ap/devices/card0a/config\n" in text
    assert text.endswith("\n1 problem.\n")
    assert text.index("problems:") < text.index("warnings:")

# SPDX-License-Identifier: Apache-2.0
"""The emulated hardware itself: what the kernel's own drivers make of it, at rest and while it changes."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hosts import mdev
from this_kernel import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUS = Path("/sys/bus/ap")
CARDS = Path("/sys/devices/ap")
MODEL = Path("/sys/module/ap_emul/parameters")
MATRIX = Path("/sys/devices/vfio_ap/matrix")
TYPE = MATRIX / "mdev_supported_types/vfio_ap-passthrough"
DEVICE = MATRIX / mdev(1)


def queues() -> set[str]:
    return {path.name for path in BUS.joinpath("devices").iterdir() if "." in path.name}


def bound(driver: str) -> set[str]:
    return {path.name for path in BUS.joinpath("drivers", driver).iterdir() if "." in path.name}


def write(path: Path, text: str) -> None:
    """One write; what the kernel refuses is raised."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def refused(path: Path, text: str) -> int | None:
    """The errno of a write, None if it succeeds."""
    try:
        write(path, text)
    except OSError as error:
        return error.errno
    return None


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Hardware and masks are what they were."""
    knobs = ("adapters", "domains", "deconfigured", "checkstopped", "reset_ms")
    before = {knob: MODEL.joinpath(knob).read_text() for knob in knobs}
    yield
    if DEVICE.exists():
        write(DEVICE / "remove", "1")
    for knob, text in before.items():
        write(MODEL / knob, text)
    for mask in ("apmask", "aqmask"):
        write(BUS / mask, f"0x{'f' * 64}")
    subprocess.run(["udevadm", "settle"], check=True)


@pytest.fixture
def set_knob() -> Callable[[str, str], None]:
    def change(knob: str, text: str) -> None:
        write(MODEL / knob, text)

    return change


def test_queues_are_where_adapters_and_domains_meet() -> None:
    expected = {f"{a:02x}.{d:04x}" for a in (0, 1, 10) for d in (1, 2, 4, 27)}
    assert queues() == expected == bound("cex4queue")
    assert BUS.joinpath("bindings").read_text() == "12/12 (complete)\n"


@pytest.mark.parametrize(("card", "kind"), [("card00", "CEX8A"), ("card01", "CEX8C"), ("card0a", "CEX8P")])
def test_a_mode_makes_a_type(card: str, kind: str) -> None:
    assert CARDS.joinpath(card, "type").read_text().strip() == kind
    assert CARDS.joinpath(card, "hwtype").read_text() == "14\n"
    # The hardware says one less, and 6.1 passes that on.
    assert CARDS.joinpath(card, "depth").read_text() == ("7\n" if running().name == "6.1" else "8\n")


def test_interruptions_are_on() -> None:
    assert BUS.joinpath("ap_interrupts").read_text() == "1\n"
    deadline = time.monotonic() + 10
    state = CARDS / "card01/01.0001/interrupt"
    while "enabled" not in state.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state.read_text() == "Interrupts enabled.\n"


def test_a_domain_and_an_adapter_come_and_go(set_knob: Callable[[str, str], None]) -> None:
    set_knob("domains", "1,2,4,1b,1c")
    assert {"00.001c", "01.001c", "0a.001c"} <= queues()
    set_knob("adapters", "00=accel,01=cca")
    assert {name for name in queues() if name.startswith("0a")} == set()
    assert not CARDS.joinpath("card0a").exists()
    set_knob("adapters", "00=accel,01=cca,0a=ep11,3f=ep11:13")
    assert CARDS.joinpath("card3f/type").read_text().strip() == "CEX7P"
    assert len(queues()) == 4 * 5


@pytest.mark.parametrize(
    "text", ["00", "00=tpm", "100=cca", "03-01=cca", "00=cca:0", "00=cca:256", "=cca", "0g=cca"]
)
def test_malformed_hardware_changes_nothing(text: str) -> None:
    before = queues()
    assert refused(MODEL / "adapters", text) in (errno.EINVAL, errno.ERANGE)
    assert queues() == before


def test_an_adapter_in_standby_or_checkstop_stays(set_knob: Callable[[str, str], None]) -> None:
    set_knob("deconfigured", "0a")
    assert CARDS.joinpath("card0a/0a.0001/config").read_text() == "0\n"
    assert CARDS.joinpath("card0a/0a.0001/online").read_text() == "0\n"
    set_knob("deconfigured", "\n")
    assert CARDS.joinpath("card0a/0a.0001/config").read_text() == "1\n"
    set_knob("checkstopped", "01")
    assert CARDS.joinpath("card01/chkstop").read_text() == "1\n"


def test_the_service_processor_configures(set_knob: Callable[[str, str], None]) -> None:
    write(CARDS / "card0a/config", "0")
    assert MODEL.joinpath("deconfigured").read_text() == "0a\n"
    write(CARDS / "card0a/config", "1")
    assert MODEL.joinpath("deconfigured").read_text() == "\n"


def test_masks_move_queues_and_resets_take_their_time(set_knob: Callable[[str, str], None]) -> None:
    write(BUS / "apmask", "-0x0a")
    assert bound("vfio_ap") == {"0a.0001", "0a.0002", "0a.0004", "0a.001b"}
    set_knob("reset_ms", "300")
    began = time.monotonic()
    write(BUS / "apmask", "+0x0a")
    # One after the other; 6.1 resets only what a device has.
    assert time.monotonic() - began > (0 if running().name == "6.1" else 3 * 0.3)
    assert bound("vfio_ap") == set()


def test_what_an_assigned_queue_forbids() -> None:
    write(TYPE / "create", mdev(1))
    write(DEVICE / "assign_adapter", "0")
    assert refused(DEVICE / "assign_domain", "1") == errno.EADDRNOTAVAIL
    write(BUS / "apmask", "-0")
    write(DEVICE / "assign_domain", "1")
    assert DEVICE.joinpath("guest_matrix").read_text() == "00.0001\n"
    assert refused(BUS / "apmask", "+0") == errno.EBUSY
    write(TYPE / "create", mdev(2))
    try:
        write(MATRIX / mdev(2) / "assign_adapter", "0")
        assert refused(MATRIX / mdev(2) / "assign_domain", "1") == errno.EADDRINUSE
    finally:
        write(MATRIX / mdev(2) / "remove", "1")
    write(DEVICE / "remove", "1")
    assert refused(BUS / "apmask", "+0") is None


def test_an_adapter_that_is_unplugged_leaves_its_device(set_knob: Callable[[str, str], None]) -> None:
    write(BUS / "apmask", "-0,-0x0a")
    write(TYPE / "create", mdev(1))
    for text in ("0", "0x0a"):
        write(DEVICE / "assign_adapter", text)
    write(DEVICE / "assign_domain", "1")
    assert DEVICE.joinpath("guest_matrix").read_text() == "00.0001\n0a.0001\n"
    set_knob("adapters", "00=accel,01=cca")
    assert DEVICE.joinpath("matrix").read_text() == "00.0001\n0a.0001\n"
    assert DEVICE.joinpath("guest_matrix").read_text() == "00.0001\n"
    set_knob("adapters", "00=accel,01=cca,0a=ep11")
    assert DEVICE.joinpath("guest_matrix").read_text() == "00.0001\n0a.0001\n"


@pytest.mark.skipif(not MODEL.joinpath("keys").exists(), reason="this hardware answers no requests")
def test_coprocessors_say_which_keys_they_hold(set_knob: Callable[[str, str], None]) -> None:
    set_knob("keys", "01.0001=1122334455667788,0a.01-02=00000000000000aa,01.0002=0")
    cca = CARDS.joinpath("card01/01.0001/mkvps").read_text()
    for key, size in (("AES", 1), ("APKA", 1), ("ASYM", 2)):
        assert f"{key} CUR: valid 0x{'1122334455667788' * size}\n" in cca
        assert f"{key} NEW: empty " in cca
        assert f"{key} OLD: invalid " in cca
    assert "AES CUR: invalid 0x0000000000000000\n" in CARDS.joinpath("card01/01.0002/mkvps").read_text()
    ep11 = CARDS.joinpath("card0a/0a.0002/mkvps").read_text()
    assert ep11 == f"WK CUR: valid 0x{'00000000000000aa' * 4}\nWK NEW: empty -\n"
    assert CARDS.joinpath("card01/serialnr").read_text() == "EMUL0001\n"
    assert re.fullmatch(r"EMUL0{10}0A\n", CARDS.joinpath("card0a/serialnr").read_text())
    set_knob("keys", "01.00-ff=0123456789abcdef,0a.00-ff=0123456789abcdef")

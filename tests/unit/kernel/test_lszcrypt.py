# SPDX-License-Identifier: Apache-2.0
"""Every column against what lszcrypt 2.40 printed for the same tree, odd ones included."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.lszcrypt import ApDevice, has_secure_binding, read_inventory
from apvfio.kernel.sysfs import RealSysfs

if TYPE_CHECKING:
    from pathlib import Path

LSZCRYPT = """\
CARD.DOM TYPE  MODE        STATUS     REQUESTS  PENDING HWTYPE QDEPTH FUNCTIONS  DRIVER      SESTAT
--------------------------------------------------------------------------------------------------------
00       CEX8C CCA-Coproc  online            1        3     14     08 S--D--N-F- cex4card    -
00.0000  CEX8C CCA-Coproc  offline          77        3     14     08 S--D--N-F- cex4queue   usable
00.0001  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   usable
00.0002  CEX8C CCA-Coproc  chkstop          77        3     14     08 S--D--N-F- cex4queue   usable
00.0003  CEX8C CCA-Coproc  online           77        -     14     08 S--D--N-F- -no-driver- usable
00.0004  CEX8C CCA-Coproc  -                77        3     14     08 S--D--N-F- cex4queue   usable
00.0005  CEX8C CCA-Coproc  in use            -        -     14     08 S--D--N-F- vfio_ap     usable
00.0006  CEX8C CCA-Coproc  online           77        -     14     08 S--D--N-F- -no-driver- usable
00.0007  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   usable
00.0008  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   error
00.0009  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   invalid
00.000a  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   bound
00.000b  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   unbound
00.000c  CEX8C CCA-Coproc  online           77        3     14     08 S--D--N-F- cex4queue   illicit
00.000d  CEX8C CCA-Coproc  deconfig          -        3     14     08 S--D--N-F- cex4queue   usable
01       CEX8A Accelerator deconfig          -        -     14     09 SMC-A-NH-R cex4card    -
01.0000  CEX8A Accelerator online           77        -     14     09 SMC-A-NH-R cex4queue   usable
02       -     EP11-Coproc chkstop           1        3     13     07 -----X---- -no-driver- -
02.0000  -     EP11-Coproc online           77        3     13     07 -----X---- cex4queue   usable
03       CEX8C Unknown     -                 1        3     14     08 ---------- cex4card    -
03.0000  CEX8C Unknown     online           77        3     14     08 ---------- cex4queue   usable
"""
"""What ``lszcrypt -V`` of s390-tools 2.40 printed for the tree that `fake_sys` makes."""

CARD = {
    "type": "CEX8C",
    "hwtype": "14",
    "depth": "8",
    "ap_functions": "0x92800000",
    "request_count": "1",
    "requestq_count": "1",
    "pendingq_count": "2",
    "config": "1",
    "online": "1",
    "chkstop": "0",
}
QUEUE = {
    "ap_functions": "0x92800000",
    "request_count": "77",
    "requestq_count": "1",
    "pendingq_count": "2",
    "config": "1",
    "chkstop": "0",
    "online": "1",
}
GONE = ""
"""Instead of a text: the attribute is not there."""


@pytest.fixture
def fake_sys(tmp_path: Path) -> Path:
    """A tree with every case in it that lszcrypt distinguishes."""
    write(tmp_path / "sys/bus/ap", {"features": "APSC APXA QACT RC8A APSB"})
    add_card(tmp_path, 0)
    odd: list[tuple[str, dict[str, str]]] = [
        ("cex4queue", {"online": "0"}),
        ("cex4queue", {}),
        ("cex4queue", {"chkstop": "1"}),
        ("cex0other", {}),
        ("cex4queue", {"online": GONE}),
        ("vfio_ap", {"online": GONE, "status": "in use", "request_count": "-"}),
        ("", {}),
        ("cex4queue", {"config": GONE}),
        ("cex4queue", {"chkstop": GONE, "ap_functions": GONE}),
        ("cex4queue", {"ap_functions": "0x00000000"}),
        ("cex4queue", {"ap_functions": "0x92804000"}),
        ("cex4queue", {"ap_functions": "0x92808000"}),
        ("cex4queue", {"ap_functions": "0x9280C000"}),
        ("cex4queue", {"config": "0"}),
    ]
    for domain, (driver, changes) in enumerate(odd):
        add_queue(tmp_path, 0, domain, driver, **changes)
    add_card(tmp_path, 1, type="CEX8A", depth="9", ap_functions="0xEB400000", config="0")
    add_card(tmp_path, 2, "", type=GONE, hwtype="13", depth="7", ap_functions="0x04000000", chkstop="1")
    add_card(tmp_path, 3, ap_functions="0x00000000", online=GONE)
    for adapter in (1, 2, 3):
        add_queue(tmp_path, adapter, 0, "cex4queue")
    # What else lives beside cards and queues.
    (tmp_path / "sys/devices/ap/power").mkdir()
    (tmp_path / "sys/devices/ap/card00/power").mkdir()
    return tmp_path


def add_card(root: Path, adapter: int, driver: str = "cex4card", **changes: str) -> None:
    write(root / f"sys/devices/ap/card{adapter:02x}", CARD | changes, driver)


def add_queue(root: Path, adapter: int, domain: int, driver: str, **changes: str) -> None:
    name = f"{adapter:02x}.{domain:04x}"
    write(root / f"sys/devices/ap/card{adapter:02x}/{name}", QUEUE | changes, driver)


def write(directory: Path, attributes: dict[str, str], driver: str = "") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in attributes.items():
        if text != GONE:
            (directory / name).write_text(f"{text}\n")
    if driver:
        (directory / "driver").symlink_to(f"../../../bus/ap/drivers/{driver}")


def columns(device: ApDevice) -> list[str]:
    depth = "-" if device.qdepth is None else f"{device.qdepth:02d}"
    facts = (
        device.id,
        device.type,
        device.mode,
        device.status,
        device.requests,
        device.pending,
        device.hwtype,
        depth,
        device.functions,
        device.driver or "-no-driver-",
        device.sestat,
    )
    return ["-" if fact is None else str(fact) for fact in facts]


def test_every_column_is_lszcrypts(fake_sys: Path) -> None:
    expected = [re.sub(r"in use", "in_use", line).split() for line in LSZCRYPT.splitlines()[2:]]
    found = [
        [text.replace(" ", "_") for text in columns(d)] for d in read_inventory(RealSysfs(str(fake_sys)))
    ]
    assert found == expected


def test_without_the_feature_there_is_no_sestat(fake_sys: Path) -> None:
    (fake_sys / "sys/bus/ap/features").write_text("APSC APXA\n")
    sysfs = RealSysfs(str(fake_sys))
    assert not has_secure_binding(sysfs)
    assert {device.sestat for device in read_inventory(sysfs)} == {None}


def test_a_kernel_without_features_file(fake_sys: Path) -> None:
    (fake_sys / "sys/bus/ap/features").unlink()
    assert not has_secure_binding(RealSysfs(str(fake_sys)))


def test_a_card_that_vanishes_while_one_reads_leaves_gaps(fake_sys: Path) -> None:
    class Vanishing(RealSysfs):
        def list(self, path: str) -> list[str]:
            return ["card07", *super().list(path)] if path == "devices/ap" else super().list(path)

    device = next(iter(read_inventory(Vanishing(str(fake_sys)))))
    assert columns(device) == [
        "07",
        "-",
        "Unknown",
        "-",
        "-",
        "0",
        "-",
        "-",
        "----------",
        "-no-driver-",
        "-",
    ]


def test_numbers_that_are_none_are_left_out(fake_sys: Path) -> None:
    (fake_sys / "sys/devices/ap/card00/hwtype").write_text("\u0661\u0664\n", encoding="utf-8")
    (fake_sys / "sys/devices/ap/card00/depth").write_text("deep\n")
    card = next(iter(read_inventory(RealSysfs(str(fake_sys)))))
    assert (card.hwtype, card.qdepth) == (None, None)

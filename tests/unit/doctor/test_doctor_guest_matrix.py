# SPDX-License-Identifier: Apache-2.0
"""Kernels whose mediated devices have no ``guest_matrix``: found by files, and what that costs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.doctor.collect.kernel import has_guest_matrix
from apvfio.kernel.snapshot import read_host
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.errors import Exit
from apvfio.model.host import AP_MDEVS
from apvfio.sim.kernel import SimKernel
from hosts import mdev

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = f"{AP_MDEVS.parent}/features"
SHOWN = f"{AP_MDEVS.device(mdev(1))}/guest_matrix"
OURS = "0 t vfio_ap_mdev_probe\t[vfio_ap]\n"


def tree(tmp_path: Path, kernel: SimKernel) -> None:
    """The kernel's files in a directory, as they are now."""
    top = f"{tmp_path}/sys"

    def copy(path: str) -> None:
        for name in kernel.list(path):
            below = f"{path}/{name}" if path else name
            target = f"{top}/{below}"
            if _is_link(kernel, below):
                os.symlink(kernel.readlink(below), target)
            elif _is_directory(kernel, below):
                os.makedirs(target)
                copy(below)
            else:
                try:
                    text = kernel.read(below)
                except OSError:
                    text = ""  # can only be written
                with open(target, "w", encoding="utf-8") as file:
                    file.write(text)

    os.makedirs(top)
    copy("")


def _is_link(kernel: SimKernel, path: str) -> bool:
    try:
        kernel.readlink(path)
    except OSError:
        return False
    return True


def _is_directory(kernel: SimKernel, path: str) -> bool:
    try:
        kernel.list(path)
    except OSError:
        return False
    return True


def host(tmp_path: Path, *, device: bool) -> RealSysfs:
    kernel = SimKernel.new("6.12")
    if device:
        kernel.write(AP_MDEVS.create, mdev(1))
    tree(tmp_path, kernel)
    return RealSysfs(str(tmp_path))


def tells(sysfs: RealSysfs, symbols: str = "") -> bool:
    return has_guest_matrix(sysfs, read_host(sysfs), symbols)


def test_a_device_tells(tmp_path: Path) -> None:
    sysfs = host(tmp_path, device=True)
    assert tells(sysfs)
    os.unlink(f"{tmp_path}/sys/{SHOWN}")
    assert not tells(sysfs)


def test_without_a_device_the_features_tell(tmp_path: Path) -> None:
    sysfs = host(tmp_path, device=False)
    assert tells(sysfs)
    (tmp_path / "sys" / FEATURES).write_text("hotplug ap_config\n")
    assert not tells(sysfs)


@pytest.mark.parametrize(
    ("symbols", "there"),
    [
        (f"{OURS}0 t guest_matrix_show\t[vfio_ap]\n", True),
        (OURS, False),
        ("0 t vfio_ap_mdev_probe\n", False),  # built into the kernel
        ("0 T start_kernel\n", True),  # not all symbols are there
        ("", True),
    ],
)
def test_without_both_the_symbols_tell(symbols: str, there: bool, tmp_path: Path) -> None:
    sysfs = host(tmp_path, device=False)
    os.unlink(tmp_path / "sys" / FEATURES)
    (tmp_path / "kallsyms").write_text(symbols)
    assert tells(sysfs, str(tmp_path / "kallsyms")) is there
    assert tells(sysfs, str(tmp_path / "missing"))
    assert tells(sysfs)


def test_the_doctor_says_what_it_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host(tmp_path, device=True)
    os.unlink(f"{tmp_path}/sys/{SHOWN}")
    code = main(["--root", str(tmp_path), "doctor", "--json", "-c", "test:///default"])
    (found,) = [
        check for check in json.loads(capsys.readouterr().out)["checks"] if check["id"] == "guest-matrix"
    ]
    assert (code, found["state"]) == (Exit.HOST, "problem")
    assert "every start of a guest with queues fails" in found["message"]

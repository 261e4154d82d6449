# SPDX-License-Identifier: Apache-2.0
"""The real side of both seams: sysfs attributes and the files that are kept."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from apvfio.kernel.errnos import refused
from apvfio.kernel.sysfs import RealSysfs
from apvfio.model.errors import ApvfioError, HostError, KernelRefusedError
from apvfio.store.files import RealFiles
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from pathlib import Path

    from pyfakefs.fake_filesystem import FakeFilesystem


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    files = RealFiles(str(tmp_path))
    assert files.read("run/apvfio/ledger.json") is None
    assert files.list("run/apvfio") == []
    files.write("run/apvfio/ledger.json", "one")
    files.write("run/apvfio/ledger.json", "two")
    assert files.read("run/apvfio/ledger.json") == "two"
    assert files.list("run/apvfio") == ["ledger.json"]
    assert (tmp_path / "run/apvfio/ledger.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "run/apvfio").stat().st_mode & 0o777 == 0o700
    files.remove("run/apvfio/ledger.json")
    files.remove("run/apvfio/ledger.json")
    assert files.list("run/apvfio") == []


def test_a_link_is_not_followed_for_reading_nor_for_writing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("secret")
    os.symlink(victim, tmp_path / "link")
    files = RealFiles(str(tmp_path))
    with pytest.raises(HostError, match="symbolic link, which is not followed"):
        files.read("link")
    files.write("link", "ours")
    assert victim.read_text() == "secret"
    assert not (tmp_path / "link").is_symlink()


def test_a_full_disk_leaves_the_old_file_and_no_new_one(fs: FakeFilesystem) -> None:
    fs.set_disk_usage(6000, "/")
    files = RealFiles("/")
    files.write("ledger", "old")
    with pytest.raises(HostError, match="No space left"):
        files.write("ledger", "x" * 10_000)
    assert files.read("ledger") == "old"
    assert [name for name in os.listdir("/") if name.startswith("ledger")] == ["ledger"]


def test_odd_places_are_errors_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dir").mkdir()
    files = RealFiles(str(tmp_path))
    assert files.read("file/below") is None
    assert files.list("file/below") == []
    with pytest.raises(HostError, match=r"File exists|Not a directory"):
        files.write("file/below", "x")
    with pytest.raises(HostError, match="Is a directory"):
        files.remove("dir")
    with pytest.raises(HostError):
        files.write("dir", "x")
    assert sorted(os.listdir(tmp_path)) == ["dir", "file"]


def test_the_boot_id_of_a_tree_and_of_this_machine(tmp_path: Path) -> None:
    here = RealSystem().boot_id
    assert len(here) == 36
    assert RealSystem(str(tmp_path)).boot_id == here
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("a-boot\n")
    assert RealSystem(str(tmp_path)).boot_id == "a-boot"


def test_attributes_are_read_and_written_in_one_go(tmp_path: Path) -> None:
    (tmp_path / "sys/bus").mkdir(parents=True)
    attribute = tmp_path / "sys/bus/apmask"
    attribute.write_text("0x00\n")
    os.symlink("../x", tmp_path / "sys/bus/driver")
    sysfs = RealSysfs(str(tmp_path))
    assert sysfs.read("bus/apmask") == "0x00\n"
    sysfs.write("bus/apmask", "-5")
    assert sysfs.read("bus/apmask").startswith("-5")
    assert sysfs.list("bus") == ["apmask", "driver"]
    assert sysfs.readlink("bus/driver") == "../x"
    assert sysfs.exists("bus/driver")
    assert not sysfs.exists("bus/aqmask")
    with pytest.raises(OSError, match="longer than a page"):
        sysfs.write("bus/apmask", "0" * 4096)
    with pytest.raises(FileNotFoundError):
        sysfs.write("bus/none", "1")


@pytest.mark.parametrize(
    ("number", "path", "kind", "says"),
    [
        (
            errno.EBUSY,
            "bus/ap/apmask",
            KernelRefusedError,
            "still holds one of these ids (EBUSY). Stop the guest",
        ),
        (errno.EINVAL, "bus/ap/aqmask", KernelRefusedError, "has a driver_override"),
        (
            errno.EINVAL,
            "bus/ap/devices/0a.0001/driver_override",
            KernelRefusedError,
            "while any is clear, no driver_override",
        ),
        (errno.EADDRNOTAVAIL, "x/ap_config", KernelRefusedError, "belongs to the host's drivers"),
        (errno.EADDRINUSE, "x/assign_domain", KernelRefusedError, "another mediated device"),
        (errno.EEXIST, "x/create", KernelRefusedError, "exists already"),
        (errno.EIO, "x/y", KernelRefusedError, "Input/output error (EIO)"),
        (errno.EACCES, "bus/ap/apmask", HostError, "Run this as root"),
        (errno.ENOENT, "bus/ap/apmask", HostError, "does not exist"),
    ],
)
def test_an_errno_becomes_the_kernels_reason(
    number: int, path: str, kind: type[ApvfioError], says: str
) -> None:
    error = refused(OSError(number, "x"), path, "-1\n")
    assert type(error) is kind
    assert says in str(error)
    assert f"/sys/{path}" in str(error)

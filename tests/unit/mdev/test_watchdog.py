# SPDX-License-Identifier: Apache-2.0
"""Writes under a watchdog: real pipes and files play the kernel that does not answer."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from errno import ETIMEDOUT
from pathlib import Path

import pytest

from apvfio.engine.bus_wait import wait_for_bus
from apvfio.kernel.apply import apply_steps
from apvfio.kernel.errnos import refused
from apvfio.kernel.sysfs import RealSysfs
from apvfio.mdev.watchdog import holders, write_watched
from apvfio.model.errors import ConflictError
from apvfio.model.host import AP_MDEVS, BUS, HOST_DRIVER
from apvfio.model.step import REMOVE, Step

DEVICE = "0a0b0c0d-1111-4111-8111-111111111111"


@pytest.fixture
def full_pipe(tmp_path: Path) -> tuple[str, int]:
    """A fifo to which a write blocks until somebody reads, as ``remove`` of an open device does."""
    path = str(tmp_path / "remove")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    return path, reader


def children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(word) for word in file.read().split()}


def test_a_write_that_ends_is_a_plain_write(tmp_path: Path) -> None:
    (tmp_path / "remove").write_text("")
    write_watched(str(tmp_path / "remove"), b"1", 5)
    assert (tmp_path / "remove").read_text() == "1"


def test_the_errno_is_the_writes_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_watched(str(tmp_path / "remove"), b"1", 5)
    with pytest.raises(OSError, match="No space left") as failed:
        write_watched("/dev/full", b"1", 5)
    assert failed.value.filename == "/dev/full"


def test_no_child_and_no_descriptor_is_left(tmp_path: Path) -> None:
    (tmp_path / "remove").write_text("")
    before = children(), set(os.listdir("/proc/self/fd"))
    write_watched(str(tmp_path / "remove"), b"1", 5)
    with suppress(OSError):
        write_watched("/dev/full", b"1", 5)
    assert (children(), set(os.listdir("/proc/self/fd"))) == before


def test_a_write_held_up_is_left_to_itself(full_pipe: tuple[str, int]) -> None:
    path, reader = full_pipe
    before = children()
    ours, theirs = os.pipe()
    with pytest.raises(TimeoutError):
        write_watched(path, b"late", 0.1)
    (child,) = children() - before
    os.close(theirs)
    # The child keeps no descriptor of ours open: libvirt waits for the end of a hook's output.
    assert os.read(ours, 1) == b""
    assert os.getpgid(child) == child
    seen = b""
    deadline = time.monotonic() + 10
    while not seen.endswith(b"late") and time.monotonic() < deadline:
        with suppress(BlockingIOError):
            seen = seen[-4:] + os.read(reader, 65536)
    assert seen.endswith(b"late")
    assert os.waitpid(child, 0) == (child, 0)


def test_a_killed_child_is_an_error(full_pipe: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = full_pipe
    fork = os.fork

    def fork_and_kill() -> int:
        pid = fork()
        if pid:
            os.kill(pid, signal.SIGKILL)
        return pid

    monkeypatch.setattr(os, "fork", fork_and_kill)
    with pytest.raises(InterruptedError):
        write_watched(path, b"1", 5)


def test_who_holds_a_device(tmp_path: Path) -> None:
    device, proc = tmp_path / "device", tmp_path / "proc"
    (device / "vfio-dev" / "vfio3").mkdir(parents=True)
    (device / "iommu_group").symlink_to("../../kernel/iommu_groups/7")
    for pid, name, targets in (
        (12, "qemu-a", ["/dev/null", "/dev/vfio/7"]),
        (13, "sshd", ["socket:[1]"]),
        (9, "qemu-b", ["/dev/vfio/devices/vfio3"]),
        (14, "qemu-c", ["/dev/vfio/77"]),
    ):
        (proc / str(pid) / "fd").mkdir(parents=True)
        (proc / str(pid) / "comm").write_text(f"{name}\n")
        for fd, target in enumerate(targets):
            (proc / str(pid) / "fd" / str(fd)).symlink_to(target)
    (proc / "15").mkdir()
    assert holders(str(device), str(proc)) == [(9, "qemu-b"), (12, "qemu-a")]


def test_a_removal_that_does_not_end_names_who_holds_it(
    full_pipe: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reader = full_pipe
    directory = tmp_path / "sys" / AP_MDEVS.device(DEVICE)
    directory.mkdir(parents=True)
    os.rename(path, directory / "remove")
    monkeypatch.setattr("apvfio.kernel.sysfs.REMOVE_PATIENCE", 0.1)
    with pytest.raises(ConflictError, match=r"a process has it open.*apvfio reconcile") as failed:
        apply_steps(RealSysfs(str(tmp_path)), [Step(REMOVE, AP_MDEVS.remove(DEVICE), "1")])
    assert "Traceback" not in str(failed.value)
    os.close(reader)


def test_a_scan_that_does_not_end_holds_nobody(
    full_pipe: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the bus goes on, and hears what there is by then."""
    path, reader = full_pipe
    bus = tmp_path / "sys" / BUS
    (bus / "drivers" / HOST_DRIVER).mkdir(parents=True)
    os.rename(path, bus / "scans")
    (bus / "bindings").write_text("11/12\n")
    monkeypatch.setattr("apvfio.kernel.sysfs.SCAN_PATIENCE", 0.1)
    begun = time.monotonic()
    assert wait_for_bus(RealSysfs(str(tmp_path)), 0.2) == "11/12"
    assert time.monotonic() - begun < 5
    os.close(reader)


def test_any_timeout_is_a_conflict() -> None:
    error = refused(TimeoutError(ETIMEDOUT, "process 9 (qemu) has it open"), "x/remove", "1")
    assert isinstance(error, ConflictError)
    assert "process 9 (qemu) has it open" in str(error)

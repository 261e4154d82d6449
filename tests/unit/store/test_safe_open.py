# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all, and what the kernel refuses is one sentence with its facts."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.store.safe_open import file_error, read_part, replace_whole, write_all

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [
        (errno.ENOSPC, "No space left on device", "Free space there: see 'df /run/apvfio'."),
        (errno.EDQUOT, "Disk quota exceeded", "Free space there: see 'df /run/apvfio'."),
        (errno.EROFS, "Read-only file system", "Mount that file system read-write."),
        (errno.EIO, "Input/output error", "See the kernel's log for errors of that medium: 'dmesg'."),
        (
            errno.EMFILE,
            "Too many open files",
            "Raise this process' limit of open files: see 'prlimit --nofile'.",
        ),
        (
            errno.ENFILE,
            "Too many open files in system",
            "Raise the system's limit of open files: see 'sysctl fs.file-max'.",
        ),
        (
            errno.EACCES,
            "Permission denied",
            "Run this as root, or check 'lsattr /run/apvfio/ledger.json' and SELinux's log.",
        ),
        (errno.ELOOP, "it is a symbolic link, which is not followed", "Remove the link."),
        (errno.EFBIG, "File too large", "Correct this and try again."),
    ],
)
def test_each_errno_has_a_sentence_and_a_remedy(number: int, reason: str, remedy: str) -> None:
    error = file_error("/run/apvfio/ledger.json", "written", OSError(number, os.strerror(number)))
    assert str(error) == f"/run/apvfio/ledger.json cannot be written: {reason}. {remedy}"
    assert (error.errno, error.path, error.code) == (number, "/run/apvfio/ledger.json", Exit.HOST)


def test_what_one_write_does_not_take_another_does() -> None:
    """A pipe that nobody reads takes a part only."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = bytes(range(256)) * 1024
    with pytest.raises(BlockingIOError):  # it was full, and so not all was written by the first
        write_all(writing, data)
    held = os.read(reading, len(data))
    assert held == data[: len(held)]
    assert len(held) > 4096
    write_all(writing, data[: len(held)])
    assert os.read(reading, len(data)) == data[: len(held)]
    for fd in (reading, writing):
        os.close(fd)


def test_a_part_of_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    data = os.urandom(200_000)
    replace_whole(path, data)
    assert read_part(path, 1 << 20) == data
    assert read_part(path, 100_000) == data[:100_000]
    assert read_part(path, 100_000, end=True) == data[-100_000:]
    assert os.listdir(tmp_path) == ["file"]

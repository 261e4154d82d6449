# SPDX-License-Identifier: Apache-2.0
"""Directories that others may write to, odd umasks, a full disk, a limit of the size of files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import Exit
from apvfio.model.persistent_masks import RULE
from apvfio.sim.kernel import SimKernel
from apvfio.store.files import RealFiles
from apvfio.store.ledger_file import LEDGER
from apvfio.store.system import RealSystem
from hostile_input import domain, prepare, require_sentence, run, simulated
from hosts import IBM_DOMAINS
from planted_files import Planted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, make devices and mount")
NOBODY = 65534


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702, 0o720])
def test_our_directory_is_open_to_others(planted: Planted, mode: int) -> None:
    planted.path("run/apvfio").chmod(mode)
    planted.path(LEDGER).write_text('{"version": 1}')
    kernel = planted.kernel.to_json()
    said = prepare(planted.system, domain())
    require_sentence(said, Exit.HOST)
    assert "others may have put files into it" in said.err
    with simulated(planted.system):  # type: ignore[arg-type]
        for words in (["status"], ["reconcile"], ["release", "db1"], ["masks", "-a", "apmask=-1"]):
            require_sentence(run("--sim", "x", *words), Exit.HOST)
    assert planted.kernel.to_json() == kernel
    assert os.listdir(planted.path("run/apvfio")) == ["ledger.json"]


@ROOT
def test_our_directory_is_somebody_elses(planted: Planted) -> None:
    os.chown(planted.path("run/apvfio"), NOBODY, NOBODY)
    said = prepare(planted.system, domain())
    require_sentence(said, Exit.HOST)
    assert f"belongs to uid {NOBODY}" in said.err
    assert os.listdir(planted.path("run/apvfio")) == []


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o027])
def test_the_umask_of_the_caller_does_not_matter(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files = RealFiles(str(tmp_path))
        files.write(LEDGER, "{}")
        files.write(RULE, "x", 0o644)
    finally:
        os.umask(before)
    for path, mode in (("run/apvfio", 0o700), (LEDGER, 0o600), (RULE, 0o644)):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for next to nothing."""
    directory = tmp_path / "small"
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "small", directory],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = f"no file system can be mounted here: {done.stderr.decode().strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield directory
    subprocess.run(["umount", directory], check=True)


def fill(path: Path) -> None:
    """Leave no room in the file system."""
    with suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


@ROOT
def test_a_full_run_refuses_the_guest_and_leaves_the_host_as_it_was(full: Path) -> None:
    system = RealSystem(str(full))
    kernel = SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
    system.sysfs = kernel
    before = kernel.to_json()
    fill(full / "filler")
    require_sentence(prepare(system, domain()), Exit.HOST)
    assert kernel.to_json() == before
    for operation in ("release", "reconnect"):
        assert prepare(system, domain(), operation).code == Exit.OK
    # Now there is room for the directories and for nothing in them.
    (full / "filler").unlink()
    for directory, mode in (
        ("run", 0o755),
        ("run/apvfio", 0o700),
        ("run/apvfio/waiting", 0o700),
        ("run/lock", 0o755),
    ):
        (full / directory).mkdir(mode=mode, exist_ok=True)
    fill(full / "filler")
    require_sentence(prepare(system, domain()), Exit.HOST)
    assert kernel.to_json() == before
    assert os.listdir(full / "run/apvfio/waiting") == []
    (full / "filler").unlink()
    assert prepare(system, domain()) == (Exit.OK, "", "")


LIMITED = """\
import resource, sys
from apvfio.store.system import RealFiles
files = RealFiles(sys.argv[1])
files.write("run/apvfio/ledger.json", "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write("run/apvfio/ledger.json", "x" * 5000)
except Exception as error:
    print(type(error).__name__, error)
print(files.read("run/apvfio/ledger.json"), files.list("run/apvfio"))
"""


def test_a_limit_of_the_size_of_files(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ledger = tmp_path / LEDGER
    assert done.stdout.splitlines() == [
        f"FileError {ledger} cannot be written: File too large. Correct this and try again.",
        "old ['ledger.json']",
    ]
    assert done.stderr == ""

# SPDX-License-Identifier: Apache-2.0
"""Links, fifos, directories, devices and odd rights in the places where apvfio reads and writes."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from apvfio.chzdev import RULE
from apvfio.definitions import FOLDER
from apvfio.errors import ApvfioError, Exit, HostError
from apvfio.handover import DIRECTORY as HANDOVER
from apvfio.ledger import LEDGER
from apvfio.locks import OWN_LOCK, S390_LOCK, s390_lock
from apvfio.policy import POLICY
from apvfio.sim.kernel import SimKernel
from apvfio.system import RealFiles, RealSystem
from apvfio.waiting import ROOM, FileRoom
from hostility import MDEV, bounded, domain, prepare, require_line, require_sentence, run, simulated
from hosts import IBM_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "nobody may read or change this\n"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, make devices and mount")
NOBODY = 65534


class Planted:
    """A real tree of files before a simulated kernel, and a file elsewhere that must not be touched."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "host"
        self.victim = directory / "victim"
        self.victim.write_text(SECRET)
        self.victim.chmod(0o640)
        self.elsewhere = directory / "elsewhere"
        self.elsewhere.mkdir(0o700)
        self.root.mkdir()
        for below in ("run/lock", "etc/apvfio", "etc/udev/rules.d", FOLDER):
            (self.root / below).mkdir(parents=True)
        (self.root / "run/apvfio").mkdir(0o700)
        self.kernel = SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
        self.system = RealSystem(str(self.root))
        self.system.sysfs = self.kernel

    def path(self, path: str) -> Path:
        return self.root / path

    def untouched(self) -> bool:
        """Whether the file and the directory elsewhere are as they were."""
        return (
            self.victim.read_text() == SECRET
            and stat.S_IMODE(self.victim.stat().st_mode) == 0o640
            and list(self.elsewhere.iterdir()) == []
            and stat.S_IMODE(self.elsewhere.stat().st_mode) == 0o700
        )


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def link(path: Path, planted: Planted) -> None:
    path.symlink_to(planted.victim)


def dangling(path: Path, planted: Planted) -> None:
    path.symlink_to(planted.elsewhere / "new")


def loop(path: Path, _: Planted) -> None:
    path.symlink_to(path.name)


def hard_link(path: Path, planted: Planted) -> None:
    os.link(planted.victim, path)


def directory_link(path: Path, planted: Planted) -> None:
    path.symlink_to(planted.elsewhere)


def directory(path: Path, _: Planted) -> None:
    path.mkdir()
    (path / "x").write_text("x")


def fifo(path: Path, _: Planted) -> None:
    os.mkfifo(path)


def unix_socket(path: Path, _: Planted) -> None:
    before = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(before)


def device(path: Path, _: Planted) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: it has no end


KINDS = [
    link,
    dangling,
    loop,
    hard_link,
    directory_link,
    directory,
    fifo,
    unix_socket,
    pytest.param(device, marks=ROOT),
]
Plant = "Callable[[Path, Planted], None]"


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize(
    "place", [OWN_LOCK, LEDGER, S390_LOCK, POLICY, f"{FOLDER}/{MDEV}", ROOM, "run/apvfio"]
)
def test_what_is_planted_is_not_used(
    planted: Planted, place: str, plant: Callable[[Path, Planted], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that starts is refused, but for a directory where one belongs."""
    monkeypatch.setattr("apvfio.locks.s390_lock", partial(s390_lock, wait=0.05))
    path = planted.path(place)
    if path.is_dir():
        path.rmdir()
    plant(path, planted)
    kernel = planted.kernel.to_json()
    said = prepare(planted.system, domain())
    assert planted.untouched()
    assert said.out == ""
    if (place, plant) in ((ROOM, directory), ("run/apvfio", directory)):
        assert said.code == Exit.OK
        return
    require_sentence(said)
    assert planted.kernel.to_json() == kernel
    assert [name for name in os.listdir(planted.path("run/lock")) if name != "s390apconfig.lock"] == []
    for operation in ("release", "reconnect"):
        quiet = prepare(planted.system, domain(), operation)
        assert quiet.code == Exit.OK
        if quiet.err:
            require_line(quiet.err)
    assert planted.untouched()
    assert planted.kernel.to_json() == kernel


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize(
    "where", [f"{LEDGER}.{os.getpid()}.new", f"{ROOM}/00000-1", f"{ROOM}/x.new", f"{HANDOVER}/5.x"]
)
def test_what_lies_about_is_in_nobodys_way(
    planted: Planted, where: str, plant: Callable[[Path, Planted], None]
) -> None:
    path = planted.path(where)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    plant(path, planted)
    said = prepare(planted.system, domain())
    assert planted.untouched()
    if said.code:
        assert (where.endswith(".new"), plant) == (True, directory)
        require_sentence(said, Exit.HOST)
    else:
        assert planted.system.files.read(LEDGER)
        assert prepare(planted.system, domain(), "release") == (Exit.OK, "", "")
    assert planted.untouched()


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("place", [RULE, POLICY, LEDGER, f"{FOLDER}/{MDEV}"])
def test_commands_that_read_and_write_such_a_place(
    planted: Planted, place: str, plant: Callable[[Path, Planted], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planted.root.parent)
    (planted.root.parent / "guest.xml").write_bytes(domain())
    plant(planted.path(place), planted)
    lines = (
        ["status"],
        ["masks"],
        ["masks", "-p", "apmask=-1"],
        ["plan", "--xml", "guest.xml"],
        ["dump", "copy.json", "--force"],
    )
    with simulated(planted.system):  # type: ignore[arg-type]
        for words in lines:
            said = run("--sim", "x", *words)
            if said.code:
                require_sentence(said._replace(err=said.err.splitlines(keepends=True)[-1]))
            assert planted.untouched()


def test_names_planted_beside_the_shared_lock(tmp_path: Path) -> None:
    """Anybody may make files in /run/lock: those that bear our pid and another time are passed by."""
    lock = tmp_path / "s390apconfig.lock"
    name = f"{lock}{os.getpid() % 100000:05d}"
    for number in range(255):
        os.symlink("/etc/passwd", f"{name}{number:02x}")
    with s390_lock(str(lock)):
        assert lock.read_text() == f"{os.getpid()}\n"
    assert not lock.exists()
    os.symlink("/etc/passwd", f"{name}ff")
    with pytest.raises(HostError, match="there are files named") as caught, s390_lock(str(lock)):
        pass
    require_line(f"{caught.value}\n")


def test_a_lock_that_says_what_is_no_pid(tmp_path: Path) -> None:
    lock = tmp_path / "s390apconfig.lock"
    for content in (b"-1\n", b"\xff\0\x1b[31m", b"\n", b"0\n", "٣".encode()):
        lock.write_bytes(content)
        with bounded(), pytest.raises(ApvfioError) as caught, s390_lock(str(lock), wait=0.05):
            pass
        require_line(f"{caught.value}\n")
        assert lock.read_bytes() == content
        os.utime(lock, (time.time() - 300, time.time() - 300))
        with bounded(), s390_lock(str(lock), wait=0.05):
            pass
        assert not lock.exists()


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


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o111, 0o027])
def test_the_umask_of_the_caller_does_not_matter(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files = RealFiles(str(tmp_path))
        with FileRoom(str(tmp_path / ROOM)).post({"call": "x"}) as ticket:
            assert stat.S_IMODE((tmp_path / ROOM / ticket.name).stat().st_mode) & 0o077 == 0
        files.write(LEDGER, "{}")
        files.write("etc/udev/rules.d/41-ap.rules", "x", 0o644)
    finally:
        os.umask(before)
    for path, mode in (("run/apvfio", 0o700), (ROOM, 0o700), (LEDGER, 0o600), (RULE, 0o644)):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode & ~(
            umask if path.count("/") < 3 and "." not in path else 0
        )


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
from apvfio.system import RealFiles
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
        f"HostError {ledger}: File too large. Mend it and try again.",
        "old ['ledger.json']",
    ]
    assert done.stderr == ""

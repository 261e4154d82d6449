# SPDX-License-Identifier: Apache-2.0
"""The simulated host, mounted, under the hands of ordinary tools."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

from apvfio.model.errors import Exit, HostError, UsageError
from apvfio.sim import fuse
from apvfio.sim.fuse import mount
from apvfio.sim.host_file import create_sim
from apvfio.sim.kernel import SimKernel
from apvfio.store.locks import holding_locks, s390_lock
from apvfio.store.system import RealSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UUID = "11111111-2222-4333-8444-555555555555"
CREATE = "sys/devices/vfio_ap/matrix/mdev_supported_types/vfio_ap-passthrough/create"


def cannot(why: str) -> NoReturn:
    """Nothing can be mounted here: the test is skipped, but in CI it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


class Mounted:
    """A mounted host: its tree, its file, its process."""

    def __init__(self, file: Path, tree: Path) -> None:
        self.file = file
        self.tree = tree
        self.process = subprocess.Popen(
            [sys.executable, "-m", "apvfio", "sim", "mount", str(file), str(tree)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 20)[0]
        if not self.process.stdout.readline():
            _, why = self.process.communicate(timeout=20)
            assert self.process.returncode == Exit.HOST, why
            cannot(why)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Stop the process; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            out, err = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            if os.path.ismount(self.tree):
                subprocess.run(["umount", "-l", self.tree], check=False, timeout=10)
        assert (out, err) == ("", "")
        return self.process.returncode

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell in the tree."""
        return subprocess.run(
            ["sh", "-c", script], cwd=self.tree, capture_output=True, text=True, timeout=20, check=False
        )

    def saved(self) -> dict[str, object]:
        """The files in the host's file."""
        files = json.loads(self.file.read_text())["files"]
        assert isinstance(files, dict)
        return files


@contextmanager
def mounted(file: Path, tree: Path) -> Iterator[Mounted]:
    made = Mounted(file, tree)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(autouse=True)
def _fuse() -> None:
    try:
        fuse.load_library()
    except HostError as error:
        cannot(str(error))


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    file, tree = tmp_path / "host.json", tmp_path / "tree"
    tree.mkdir()
    create_sim(str(file), SimKernel.new())
    return file, tree


@pytest.fixture
def host(place: tuple[Path, Path]) -> Iterator[Mounted]:
    with mounted(*place) as made:
        yield made


def test_attributes_are_read_and_stored(host: Mounted) -> None:
    assert host.shell("cat sys/bus/ap/apmask").stdout == "0x" + "f" * 64 + "\n"
    assert host.shell("echo -0,-0xa > sys/bus/ap/apmask").stderr == ""
    assert host.shell("cat sys/bus/ap/apmask").stdout == "0x7fdf" + "f" * 60 + "\n"
    assert host.shell("dd if=sys/bus/ap/apmask bs=10 count=2 status=none").stdout == "0x7fdf" + "f" * 14
    assert host.shell("wc -l < sys/bus/ap/apmask").stdout.strip() == "1"


def test_devices_come_and_go_by_writing(host: Mounted) -> None:
    mdev = f"sys/bus/mdev/devices/{UUID}"
    assert host.shell(f"echo {UUID} > {CREATE}").returncode == 0
    assert host.shell(f"cd -P {mdev} && basename $PWD").stdout == f"{UUID}\n"
    assert host.shell(f"cat {mdev}/mdev_type/device_api").stdout == "vfio-ap\n"
    assert host.shell(f"echo 1 > {mdev}/remove").returncode == 0
    assert host.shell(f"test -e {mdev}").returncode == 1


def test_stores_say_why_not(host: Mounted) -> None:
    system = RealSystem(str(host.tree))
    for path, value, number in (
        ("bus/ap/apmask", "nonsense", errno.EINVAL),
        ("bus/ap/drivers/cex4queue/unbind", "no.such", errno.ENODEV),
        (CREATE.removeprefix("sys/"), "nonsense", errno.EINVAL),
        ("bus/ap/bindings", "1", errno.EACCES),
        ("bus/ap/none", "1", errno.ENOENT),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            system.sysfs.write(path, value)
        assert caught.value.errno == number, path
    # No read bit, and root is told so as well.
    assert "Permission denied" in host.shell("cat sys/bus/ap/drivers_probe").stderr
    assert "Is a directory" in host.shell("cat sys/bus/ap").stderr


def test_one_write_is_one_store(host: Mounted) -> None:
    fd = os.open(host.tree / "sys/bus/ap/apmask", os.O_WRONLY)
    try:
        assert os.write(fd, b"") == 0
        assert os.write(fd, b"-0\n") == 3
        # The offset, 3 by now, means nothing, and more than a page is cut.
        assert os.write(fd, b"-1" + b"," * 5000) == 4096
    finally:
        os.close(fd)
    assert host.shell("cat sys/bus/ap/apmask").stdout.startswith("0x3f")


def test_an_open_attribute_is_shown_anew_from_its_start(host: Mounted) -> None:
    with open(host.tree / "sys/bus/ap/apmask", "rb", buffering=0) as file:
        assert file.read(4) == b"0xff"
        host.shell("echo -0 > sys/bus/ap/apmask")
        assert file.read(4) == b"ffff"
        file.seek(0)
        assert file.read(4) == b"0x7f"


def test_an_attribute_whose_device_went_is_nodev(host: Mounted) -> None:
    host.shell(f"echo {UUID} > {CREATE}")
    with open(host.tree / f"sys/bus/mdev/devices/{UUID}/matrix", "rb", buffering=0) as file:
        host.shell(f"echo 1 > sys/bus/mdev/devices/{UUID}/remove")
        with pytest.raises(OSError, match="No such device"):
            file.read()


def test_sys_and_proc_take_no_names(host: Mounted) -> None:
    for command in (
        "mkdir sys/bus/x",
        "rmdir sys/bus/ap",
        "rm sys/bus/ap/apmask",
        "mv sys/bus/ap/apmask etc/x",
        "ln etc/x sys/x; ln -s a sys/x",
        "touch sys/x",
        "rm proc/sys/kernel/random/boot_id",
        "echo x > proc/sys/kernel/random/boot_id",
        "rmdir etc",
    ):
        assert host.shell(f"echo > etc/x; {command}").returncode, command


def test_the_boot_id_is_the_hosts(host: Mounted) -> None:
    boot = json.loads(host.file.read_text())["boot_id"]
    assert RealSystem(str(host.tree)).boot_id == boot
    assert host.shell("cat proc/sys/kernel/random/boot_id").stdout == f"{boot}\n"


def test_ordinary_files_are_ordinary(host: Mounted) -> None:
    script = """\
set -eu
mkdir -p etc/a/b; echo one > etc/a/f; echo two >> etc/a/f
ln etc/a/f etc/a/g; ln -s f etc/a/l; chmod 755 etc/a/f; mv etc/a/g etc/a/b/h
test $(stat -c %h:%a etc/a/f) = 2:755
touch -d @1000 etc/a/f; test $(stat -c %Y etc/a/f) = 1000
cat etc/a/l etc/a/b/h
truncate -s 3 etc/a/f; cat etc/a/f; echo
rm etc/a/f; cat etc/a/b/h; echo
printf '#!/bin/sh\\necho ran\\n' > etc/script; chmod +x etc/script; etc/script
mkdir var; rmdir etc/a/none 2>&1 || echo refused
mv -n etc/script etc/a/b/h; mv etc/script etc/a; ls etc/a
echo x > run/f; exec 3< run/f; rm run/f; cat <&3
set -C; ! (echo y > etc/a/script) 2>/dev/null
"""
    done = host.shell(script)
    assert done.stderr == ""
    assert done.stdout.split("\n") == [
        *("one", "two") * 2,
        *("one", "one", "ran"),
        "rmdir: failed to remove 'etc/a/none': No such file or directory",
        *("refused", "b", "l", "script", "x", ""),
    ]


def test_lock_files_work(host: Mounted) -> None:
    lock = str(host.tree / "run/lock/s390apconfig.lock")
    with s390_lock(lock):
        assert os.listdir(host.tree / "run/lock") == ["s390apconfig.lock"]
        assert host.shell("cat run/lock/s390apconfig.lock").stdout == f"{os.getpid()}\n"
    assert os.listdir(host.tree / "run/lock") == []
    assert (
        host.shell("flock -n run/apvfio/lock -c 'flock -n run/apvfio/lock -c true || echo busy'").stdout
        == "busy\n"
    )


def test_the_host_is_saved_soon_and_at_the_end(place: tuple[Path, Path]) -> None:
    file, tree = place
    with mounted(file, tree) as host:
        host.shell("echo -0 > sys/bus/ap/apmask; mkdir etc/empty; echo data > etc/new")
        deadline = time.monotonic() + 5
        while "etc/new" not in host.saved() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert host.saved()["etc/new"] == {"mode": "0644", "text": "data\n"}
        assert host.saved()["etc/empty/"] == ""
        host.shell("echo last > run/last")
        assert host.end() == 0
        assert "run/last" in host.saved()
    with mounted(file, tree) as host:
        assert host.shell("cat etc/new run/last; ls etc/empty").stdout == "data\nlast\n"
        assert host.shell("cat sys/bus/ap/apmask").stdout.startswith("0x7f")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(place: tuple[Path, Path], number: int) -> None:
    with mounted(*place) as host:
        assert host.end(number) == 0
        assert not os.path.ismount(host.tree)


def test_unmounting_ends_the_process(host: Mounted) -> None:
    command = ["umount"] if os.geteuid() == 0 else [shutil.which("fusermount3") or "fusermount", "-u"]
    subprocess.run([*command, host.tree], check=True, timeout=10)
    assert host.process.wait(10) == 0


def test_a_mounted_host_is_in_use(host: Mounted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("apvfio.sim.host_file.WAIT", 0.1)
    (tmp_path / "second").mkdir()
    with pytest.raises(Exception, match="was in use by another apvfio"):
        mount(str(host.file), str(tmp_path / "second"))


def test_the_host_is_watched_without_a_lock(host: Mounted) -> None:
    command = [sys.executable, "-m", "apvfio", "--root", str(host.tree), "status", "--json", "--watch", "0.1"]
    with (
        holding_locks(str(host.tree)),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching,
    ):
        try:
            assert watching.stdout
            assert watching.stderr
            masks = [json.loads(watching.stdout.readline())["apmask"]]
            for value in ("-0", "+0"):
                assert host.shell(f"echo {value} > sys/bus/ap/apmask").stderr == ""
                masks.append(json.loads(watching.stdout.readline())["apmask"])
            watching.send_signal(signal.SIGINT)
            assert watching.wait(20) == Exit.OK
            assert watching.stderr.read() == ""
        finally:
            watching.kill()
    assert masks == ["0-255", "1-255", "0-255"]


def test_what_cannot_be_mounted(place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    file, tree = place
    with pytest.raises(UsageError, match="is not a directory"):
        mount(str(file), str(tree / "none"))
    with pytest.raises(UsageError, match=r"would cover .*host\.json"):
        mount(str(file), str(file.parent))
    monkeypatch.setitem(sys.modules, "mfusepy", None)
    with pytest.raises(HostError, match=r"the FUSE library cannot be loaded\. Install libfuse3"):
        mount(str(file), str(tree))
    monkeypatch.setattr(os.path, "exists", lambda _: False)
    with pytest.raises(HostError, match="/dev/fuse does not exist"):
        mount(str(file), str(tree))


def test_of_plans_made_on_one_state_one_is_carried_out(host: Mounted) -> None:
    """Changes given at the same time wait for the lock, and look again when they have it."""
    apvfio = [sys.executable, "-m", "apvfio", "--root", str(host.tree), "masks", "-a"]
    dry = subprocess.run([*apvfio, "apmask=-0", "--dry-run", "--json"], stdout=subprocess.PIPE, check=True)
    state = json.loads(dry.stdout)["state"]
    lock = s390_lock(str(host.tree / "run/lock/s390apconfig.lock"))
    with lock:
        rivals = [
            subprocess.Popen(
                [*apvfio, f"apmask=-{adapter}", "--if-state", state],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for adapter in (0, 1, 10)
        ]
        # All have looked once when they wait for the lock.
        time.sleep(2)
    said = [rival.communicate(timeout=20)[1] for rival in rivals]
    assert sorted(rival.returncode for rival in rivals) == [Exit.OK, Exit.CONFLICT, Exit.CONFLICT]
    assert sum("has changed since the plan was made" in text for text in said) == 2
    assert host.shell("cat sys/bus/ap/apmask").stdout.count("f") == 63

# SPDX-License-Identifier: Apache-2.0
"""The simulated host in its file: locked, replaced atomically, refused when it is anything else."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from apvfio.model.errors import ApvfioError, HostError, RequestError
from apvfio.model.mask_grammar import parse_list
from apvfio.sim import host_file
from apvfio.sim.host_file import SimSystem, create_sim, open_sim, open_sim_file
from apvfio.sim.kernel import SimKernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APMASK = "bus/ap/apmask"


def a_kernel() -> SimKernel:
    return SimKernel.new(adapters={0: "accel"}, domains=parse_list("1,2"))


@pytest.fixture
def sim(tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    create_sim(str(path), a_kernel())
    return path


def load(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text())
    assert isinstance(document, dict)
    return document


def test_a_new_host_is_private_and_says_what_it_is(sim: Path) -> None:
    assert sim.stat().st_mode & 0o777 == 0o600
    document = load(sim)
    assert (document["format"], document["version"]) == ("apvfio-sim", 1)
    assert os.listdir(sim.parent) == [sim.name]


def test_what_is_done_to_the_host_is_kept(sim: Path) -> None:
    with open_sim(str(sim)) as system:
        boot = system.boot_id
        with system.lock():
            system.sysfs.write(APMASK, "-0")
            system.files.write("run/apvfio/ledger.json", "{}\n")
    assert load(sim)["files"]["run/apvfio/ledger.json"] == "{}\n"
    with open_sim(str(sim)) as system:
        assert system.boot_id == boot
        assert system.sysfs.read(APMASK).startswith("0x7f")
        assert system.files.read("run/apvfio/ledger.json") == "{}\n"
        assert system.files.list("run/apvfio") == ["ledger.json"]


def test_it_is_kept_when_the_work_ends_with_an_error(sim: Path) -> None:
    with pytest.raises(RuntimeError), open_sim(str(sim)) as system:  # noqa: PT012
        system.sysfs.write(APMASK, "-0")
        raise RuntimeError
    with open_sim(str(sim)) as system:
        assert system.sysfs.read(APMASK).startswith("0x7f")


def test_looking_writes_nothing(sim: Path) -> None:
    before = sim.stat()
    with open_sim(str(sim)) as system:
        system.sysfs.read(APMASK)
    after = sim.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_to_the_file_stays_one(sim: Path) -> None:
    link = sim.with_name("link")
    link.symlink_to(sim)
    with open_sim(str(link)) as system:
        system.sysfs.write(APMASK, "-0")
    assert link.is_symlink()
    assert sim.stat().st_mode & 0o777 == 0o600


def test_only_one_has_the_host(sim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_file, "WAIT", 0.1)
    with open_sim(str(sim)) as system:
        system.sysfs.write(APMASK, "-0")
        with pytest.raises(ApvfioError, match=r"was in use by another apvfio for 0 s\."), open_sim(str(sim)):
            pass


def test_the_lock_survives_saving(sim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_file, "WAIT", 0.1)
    with open_sim_file(str(sim)) as file:
        inode = sim.stat().st_ino
        file.system.sysfs.write(APMASK, "-0")
        file.save()
        assert sim.stat().st_ino != inode
        with pytest.raises(ApvfioError, match="in use"), open_sim(str(sim)):
            pass


def test_who_waits_gets_the_new_file(sim: Path) -> None:
    seen: list[str] = []

    def later() -> None:
        with open_sim(str(sim)) as system:
            seen.append(system.sysfs.read(APMASK))

    with open_sim(str(sim)) as system:
        waiter = threading.Thread(target=later)
        waiter.start()
        time.sleep(0.1)
        system.sysfs.write(APMASK, "-0")
    waiter.join(10)
    assert seen[0].startswith("0x7f")


def test_a_file_taken_away_while_waiting_is_missing(sim: Path) -> None:
    holder = os.open(sim, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)

    def take_away() -> None:
        sim.unlink()
        os.close(holder)

    timer = threading.Timer(0.1, take_away)
    timer.start()
    with pytest.raises(RequestError, match="there is no simulated host"), open_sim(str(sim)):
        pass
    timer.join()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda _: "not json",
            r"is not JSON, and so not a simulated host\. Make one with 'apvfio sim new'\.",
        ),
        (lambda _: "[" * 100_000, "is not JSON"),
        (lambda _: "[]", "it does not hold a simulated host"),
        (lambda _: '{"format": "else"}', "it does not hold a simulated host"),
        (lambda d: json.dumps(d | {"version": 2}), r"it has version 2, .* knows version 1\. Update apvfio\."),
        (lambda d: json.dumps(d | {"version": 0}), r"it has version 0, .*\. Make a new one"),
        (lambda d: json.dumps(d | {"boot_id": "x"}), r"its content cannot be understood \(ValueError"),
        (lambda d: json.dumps({k: d[k] for k in d if k != "kernel"}), r"cannot be understood \(KeyError"),
        (lambda d: json.dumps(d | {"kernel": {}}), "host.json"),
        (lambda d: json.dumps(d | {"files": []}), r"'files' is not an object"),
        (lambda d: json.dumps(d | {"files": {"../x": ""}}), r"its file '../x' cannot be understood"),
    ],
)
def test_another_file_is_refused_in_a_sentence(
    sim: Path, change: Callable[[dict[str, Any]], str], says: str
) -> None:
    sim.write_text(change(load(sim)))
    before = sim.read_text()
    with pytest.raises(RequestError, match=says) as caught, open_sim(str(sim)):
        pass
    assert str(sim) in str(caught.value)
    assert sim.read_text() == before


def test_no_file_and_no_ordinary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no simulated host in .*/none"):
        open_sim(str(tmp_path / "none")).__enter__()
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(RequestError, match="is not a regular file"):
            open_sim(str(tmp_path / name)).__enter__()
    (tmp_path / "huge").write_bytes(b"")
    os.truncate(tmp_path / "huge", 65 << 20)
    with pytest.raises(RequestError, match="is larger than 64 MiB"):
        open_sim(str(tmp_path / "huge")).__enter__()
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="cannot be read: Not a directory"):
        open_sim(str(tmp_path / "file" / "below")).__enter__()


def test_making_one_does_not_replace_unless_forced(sim: Path) -> None:
    boot = load(sim)["boot_id"]
    with pytest.raises(RequestError, match=r"host.json exists\. Choose another name, or add --force\."):
        create_sim(str(sim), a_kernel())
    assert load(sim)["boot_id"] == boot
    create_sim(str(sim), a_kernel(), files={"etc/apvfio/apvfio.toml": "# mine\n"}, force=True)
    assert load(sim)["boot_id"] != boot
    assert load(sim)["files"]["etc/apvfio/apvfio.toml"] == "# mine\n"


def test_making_one_where_nothing_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be made: No such file or directory"):
        create_sim(str(tmp_path / "none" / "host.json"), a_kernel())


def test_a_host_that_cannot_be_saved_leaves_the_old_file(sim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sim.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(HostError, match="No space left on device"), open_sim(str(sim)) as system:  # noqa: PT012
        system.sysfs.write(APMASK, "-0")
        monkeypatch.setattr(os, "fsync", full)
    assert sim.read_text() == before
    assert os.listdir(sim.parent) == [sim.name]
    with pytest.raises(HostError, match="No space left on device"):
        create_sim(str(sim.with_name("other")), a_kernel())
    assert os.listdir(sim.parent) == [sim.name]


def test_a_users_file_stays_the_users(sim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    with open_sim(str(sim)) as system:
        system.sysfs.write(APMASK, "-0")
    assert given == [(os.getuid(), os.getgid())]


def test_a_system_is_told_from_its_json() -> None:
    system = SimSystem.new(a_kernel(), {"run/x": "y"})
    again = SimSystem.from_json(json.loads(json.dumps(system.to_json())))
    assert again.to_json() == system.to_json()
    assert again.files.read("run/x") == "y"

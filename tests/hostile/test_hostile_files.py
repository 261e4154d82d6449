# SPDX-License-Identifier: Apache-2.0
"""Links, fifos, directories, devices and odd rights in the places where apvfio reads and writes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.deferred import DIRECTORY as HANDOVER
from apvfio.model.errors import ApvfioError, Exit, HostError
from apvfio.model.persistent_masks import RULE
from apvfio.store.definitions import FOLDER
from apvfio.store.ledger_file import LEDGER
from apvfio.store.locks import OWN_LOCK, S390_LOCK, Patience, s390_lock
from apvfio.store.policy_file import POLICY
from hostile_input import MDEV, bounded, domain, prepare, require_line, require_sentence, run, simulated
from planted_files import KINDS, Planted, directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("place", [OWN_LOCK, LEDGER, S390_LOCK, POLICY, f"{FOLDER}/{MDEV}", "run/apvfio"])
def test_what_is_planted_is_not_used(
    planted: Planted, place: str, plant: Callable[[Path, Planted], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that starts is refused, but for a directory where one belongs."""
    monkeypatch.setattr("apvfio.store.locks.s390_lock", lambda path, _: s390_lock(path, Patience(0.05)))
    path = planted.path(place)
    if path.is_dir():
        path.rmdir()
    plant(path, planted)
    kernel = planted.kernel.to_json()
    said = prepare(planted.system, domain())
    assert planted.untouched()
    assert said.out == ""
    if (place, plant) == ("run/apvfio", directory):
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
@pytest.mark.parametrize("where", [f"{LEDGER}.{os.getpid()}.new", f"{HANDOVER}/5.x"])
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
        with bounded(), pytest.raises(ApvfioError) as caught, s390_lock(str(lock), Patience(0.05)):
            pass
        require_line(f"{caught.value}\n")
        assert lock.read_bytes() == content
        os.utime(lock, (time.time() - 300, time.time() - 300))
        with bounded(), s390_lock(str(lock), Patience(0.05)):
            pass
        assert not lock.exists()

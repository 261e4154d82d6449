# SPDX-License-Identifier: Apache-2.0
"""An installation, an update or a removal that is killed or fails: the next call leaves nothing of it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.install import installed_files
from apvfio.install.file_changes import KEPT
from apvfio.install.installed_files import HOOK, NOTIFIER
from apvfio.install.manifest import RECORD
from apvfio.model.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Strike = Callable[[], None]

_MISSED = 98
"""The exit code of a command that had fewer changes."""
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}
EDIT = b"#!/bin/sh\n# Installed by 'apvfio install'; 'apvfio uninstall' removes it.\nexit 0\n"


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree of a host, which stays as it is; all is tried on copies."""
    # The files of the page are many, and alike.
    monkeypatch.setattr(installed_files, "PAGE", installed_files.PAGE[:1])
    for directory in ("etc/libvirt/hooks", os.path.dirname(NOTIFIER), "usr/lib", "var/lib"):
        (tmp_path / "before" / directory).mkdir(parents=True)
    return tmp_path / "before"


def run(root: Path, *words: str) -> int:
    return main(["--root", str(root), *words])


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return all directories and files with their modes and contents."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in root.rglob("*")
    }


def struck(root: Path, *words: str, at: int, how: Strike) -> tuple[int, str] | None:
    """Run a command that is struck at its ``at``-th change of a file.

    Returns what `os.waitpid` says of it and its standard error; None if it has fewer changes.
    """
    said = root.parent / "stderr"
    child = os.fork()
    if not child:
        code = 99
        try:
            os.umask(0o077)
            strike = _Strike(at, how)
            with open(os.devnull, "w") as sys.stdout, said.open("w") as sys.stderr:
                sys.addaudithook(strike)
                code = run(root, *words)
                if strike.missed:
                    code = _MISSED
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    text = said.read_text()
    said.unlink()
    return None if status >> 8 == _MISSED else (status, text)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


class _Strike:
    def __init__(self, at: int, how: Strike) -> None:
        self.left = at
        self._how = how

    @property
    def missed(self) -> bool:
        return self.left > 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" else 0
        if event in _CHANGES or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            self.left -= 1
            if not self.left:
                self._how()


@pytest.fixture(params=[5, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def stride(request: pytest.FixtureRequest) -> int:
    """Whether at each change, or at each fifth only."""
    return int(request.param)


def points(start: Path, stride: int, *words: str, how: Strike = kill) -> Iterator[tuple[int, Path]]:
    """Yield a copy of ``start`` for each point at which the command was struck on it."""
    root = start.parent / "root"
    at = 1
    while True:
        shutil.copytree(start, root, symlinks=True)
        found = struck(root, *words, at=at, how=how)
        if not found:
            break
        status, text = found
        if how is kill:
            assert os.WIFSIGNALED(status)
        elif status:
            assert (status >> 8, text[-1], text.count("\n")) == (Exit.HOST, "\n", 1)
            assert " cannot be " in text
        yield at, root
        shutil.rmtree(root)
        at += stride
    assert at > 30


@pytest.mark.parametrize("how", [kill, fail])
def test_a_broken_installation_is_removed_without_a_trace(before: Path, how: Strike, stride: int) -> None:
    clean = everything(before)
    for at, root in points(before, stride, "install", how=how):
        assert run(root, "uninstall") == 0
        assert everything(root) == clean, at


def test_a_killed_installation_is_finished_by_the_next(before: Path, stride: int) -> None:
    root = before.parent / "installed"
    shutil.copytree(before, root)
    run(root, "install")
    installed = everything(root)
    for at, tried in points(before, stride, "install"):
        assert run(tried, "install") == 0
        assert everything(tried) == installed, at


def test_a_killed_update_keeps_what_was_edited(before: Path, stride: int) -> None:
    clean = everything(before)
    old = before.parent / "old"
    shutil.copytree(before, old)
    run(old, "install", "--python", "/usr/bin/python3.12")
    (old / HOOK).write_bytes(EDIT)
    new = before.parent / "new"
    shutil.copytree(old, new)
    run(new, "install")
    updated = everything(new)
    assert updated[f"{KEPT}/{HOOK}"][1] == EDIT
    for at, root in points(old, stride, "install"):
        assert run(root, "install") == 0
        assert everything(root) == updated, at
        assert run(root, "uninstall") == 0
        left = {path for path in everything(root).keys() - clean.keys() if (root / path).is_file()}
        assert left == {f"{KEPT}/{HOOK}"}, at


@pytest.mark.parametrize("how", [kill, fail])
def test_a_broken_removal_is_finished_by_the_next(
    before: Path, capsys: pytest.CaptureFixture[str], how: Strike, stride: int
) -> None:
    clean = everything(before)
    installed = before.parent / "installed"
    shutil.copytree(before, installed)
    run(installed, "install")
    for at, root in points(installed, stride, "uninstall", how=how):
        left = everything(root).keys() - clean.keys() - {os.path.dirname(RECORD)}
        capsys.readouterr()
        assert run(root, "uninstall") == 0
        assert everything(root) == clean, at
        assert not left or "nothing to do" not in capsys.readouterr().out, at

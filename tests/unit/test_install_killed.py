# SPDX-License-Identifier: Apache-2.0
"""An installation, an update or a removal that is killed: the next call leaves nothing of it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.install import contents
from apvfio.install.contents import HOOK, NOTIFIER
from apvfio.install.record import RECORD
from apvfio.install.tree import KEPT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}
EDIT = b"#!/bin/sh\n# Installed by 'apvfio install'; 'apvfio uninstall' removes it.\nexit 0\n"


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tree of a host, which stays as it is; all is tried on copies."""
    # The files of the page are many, and alike.
    monkeypatch.setattr(contents, "_PAGE", contents._PAGE[:1])
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


def killed(root: Path, *words: str, at: int) -> bool:
    """Run a command that is killed before its ``at``-th change of a file; False if it ended before."""
    child = os.fork()
    if not child:
        try:
            os.umask(0o077)
            sys.addaudithook(_Killer(at))
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            run(root, *words)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


class _Killer:
    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if event in _CHANGES or writes:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def all_points(start: Path, *words: str) -> Iterator[tuple[int, Path]]:
    """Yield a copy of ``start`` for each point at which the command was killed on it."""
    root = start.parent / "root"
    at = 1
    while True:
        shutil.copytree(start, root, symlinks=True)
        if not killed(root, *words, at=at):
            break
        yield at, root
        shutil.rmtree(root)
        at += 1
    assert at > 30


def test_a_killed_installation_is_removed_without_a_trace(before: Path) -> None:
    clean = everything(before)
    for at, root in all_points(before, "install"):
        assert run(root, "uninstall") == 0
        assert everything(root) == clean, at


def test_a_killed_installation_is_finished_by_the_next(before: Path) -> None:
    root = before.parent / "installed"
    shutil.copytree(before, root)
    run(root, "install")
    installed = everything(root)
    for at, tried in all_points(before, "install"):
        assert run(tried, "install") == 0
        assert everything(tried) == installed, at


def test_a_killed_update_keeps_what_was_edited(before: Path) -> None:
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
    for at, root in all_points(old, "install"):
        assert run(root, "install") == 0
        assert everything(root) == updated, at
        assert run(root, "uninstall") == 0
        left = {path for path in everything(root).keys() - clean.keys() if (root / path).is_file()}
        assert left == {f"{KEPT}/{HOOK}"}, at


def test_a_killed_removal_is_finished_by_the_next(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = everything(before)
    installed = before.parent / "installed"
    shutil.copytree(before, installed)
    run(installed, "install")
    for at, root in all_points(installed, "uninstall"):
        left = everything(root).keys() - clean.keys() - {os.path.dirname(RECORD)}
        capsys.readouterr()
        assert run(root, "uninstall") == 0
        assert everything(root) == clean, at
        assert not left or "nothing to do" not in capsys.readouterr().out, at

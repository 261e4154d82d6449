# SPDX-License-Identifier: Apache-2.0
"""The tree that packages are made of, and a host on which one is installed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.install.installed_files import CALLOUT, CALLOUTS, HOOK, MARK, NOTIFIER, PACKAGED
from apvfio.install.manifest import RECORD
from apvfio.model.errors import Exit
from apvfio.store import ledger_file
from apvfio.store.system import RealSystem
from hosts import a_lease, a_ledger

if TYPE_CHECKING:
    from pathlib import Path

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree that has become a package's."""
    assert package(tmp_path) == Exit.OK
    return tmp_path


def package(root: Path, *words: str) -> int:
    return main(["--root", str(root), "install", "--package", "--prefix", "/usr", *words])


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_every_file_is_the_packages(root: Path) -> None:
    found = files(root)
    assert RECORD not in found
    assert len(found) > 10
    assert all(PACKAGED in text and MARK not in text for text in found.values())


def test_it_can_be_made_again(root: Path, capsys: Captured) -> None:
    before = files(root)
    (root / HOOK).write_text(f"# {PACKAGED}\n")
    assert package(root) == Exit.OK
    assert files(root) == before
    assert f"update  /{HOOK}" in capsys.readouterr().out


def test_what_its_scripts_run_is_shown(root: Path, capsys: Captured) -> None:
    capsys.readouterr()
    package(root, "--dry-run", "--json")
    shown = json.loads(capsys.readouterr().out)["package"]
    assert [" ".join(told["command"]) for told in shown["after installation"]] == [
        "systemd-tmpfiles --create /usr/lib/tmpfiles.d/apvfio.conf",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "journalctl --update-catalog",
        "systemctl enable --now apvfio-reconcile.path apvfio-prepare.service",
    ]
    assert shown["before removal"][0]["command"][:3] == ["systemctl", "disable", "--now"]


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_nothing_is_installed_beside_it(root: Path, capsys: Captured, prefix: str) -> None:
    before = files(root)
    capsys.readouterr()
    assert main(["--root", str(root), "install", "--prefix", prefix]) == Exit.CONFLICT
    assert "the package apvfio is installed on this host" in capsys.readouterr().err
    assert files(root) == before


def test_what_a_package_leaves_to_choose(root: Path, capsys: Captured) -> None:
    before = files(root)
    words = ["--root", str(root), "install", "--callout"]
    assert main(words) == Exit.OK
    assert set(files(root)) - set(before) == {f"{CALLOUTS[0]}/{CALLOUT}", RECORD}
    capsys.readouterr()
    assert main(words) == Exit.OK
    assert "nothing to do" in capsys.readouterr().out
    assert main(["--root", str(root), "uninstall"]) == Exit.OK
    assert files(root) == before


def test_uninstall_takes_nothing_of_it(root: Path, capsys: Captured) -> None:
    before = files(root)
    capsys.readouterr()
    assert main(["--root", str(root), "uninstall"]) == Exit.OK
    assert capsys.readouterr().out == (
        "nothing to do\nnote    The package apvfio stays: its package manager removes it.\n"
    )
    assert files(root) == before


def test_a_package_is_made_in_a_tree(capsys: Captured) -> None:
    assert main(["install", "--package"]) == Exit.USAGE
    assert "--package requires --root. Add --root DIR." in capsys.readouterr().err


def test_a_callout_beside_a_package_is_all_that_goes(root: Path, capsys: Captured) -> None:
    """Guests hold queues, and the package goes on serving them."""
    system = RealSystem(str(root))
    ledger_file.save(system.files, a_ledger(a_lease("0", "1", 1))._replace(boot_id=system.boot_id))
    (root / "run/apvfio/deferred").mkdir()
    before = files(root)
    assert main(["--root", str(root), "install", "--callout"]) == Exit.OK
    capsys.readouterr()
    assert main(["--root", str(root), "uninstall"]) == Exit.OK
    assert f"remove  /{CALLOUTS[0]}/{CALLOUT}\n" in capsys.readouterr().out
    assert files(root) == before
    assert (root / "run/apvfio/deferred").is_dir()


def test_before_its_removal_a_package_takes_the_callout_out(root: Path, capsys: Captured) -> None:
    before = files(root)
    main(["--root", str(root), "install", "--callout"])
    system = RealSystem(str(root))
    ledger_file.save(system.files, a_ledger(a_lease("0", "1", 1))._replace(boot_id=system.boot_id))
    with_callout = files(root)
    assert main(["--root", str(root), "uninstall", "--package"]) == Exit.CONFLICT
    assert "guest g1 holds queues, which nothing returns after apvfio is removed." in capsys.readouterr().err
    assert files(root) == with_callout
    ledger_file.save(system.files, a_ledger()._replace(boot_id=system.boot_id))
    assert main(["--root", str(root), "uninstall", "--package"]) == Exit.OK
    assert files(root) == before
    assert not (root / "run/apvfio").exists()


def test_what_a_removed_package_has_left_is_in_the_way(root: Path, capsys: Captured) -> None:
    """Its scripts in /etc, until it is purged."""
    shutil.rmtree(root / "usr")
    capsys.readouterr()
    assert main(["--root", str(root), "install"]) == Exit.CONFLICT
    assert f"/{HOOK} is left over from the package apvfio, which is not installed." in capsys.readouterr().err
    (root / HOOK).unlink()
    (root / NOTIFIER).unlink()
    assert main(["--root", str(root), "install"]) == Exit.OK


@pytest.mark.parametrize("merged", [True, False])
def test_a_package_without_its_hook_is_still_one(root: Path, capsys: Captured, merged: bool) -> None:
    (root / HOOK).unlink()
    if not merged:
        (root / "lib").mkdir()
        (root / "usr/lib/systemd").rename(root / "lib/systemd")
    capsys.readouterr()
    assert main(["--root", str(root), "install"]) == Exit.CONFLICT
    assert "the package apvfio is installed on this host" in capsys.readouterr().err

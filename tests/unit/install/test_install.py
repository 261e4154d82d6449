# SPDX-License-Identifier: Apache-2.0
"""apvfio made a part of a tree, and taken out of it again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.cli.main import main
from apvfio.install.file_changes import CHANGED, EDITED, FOREIGN, KEPT, NEW, OBSOLETE, SAME, digest, look
from apvfio.install.installed_files import CALLOUTS, HOOK, MANUALS, MARK, NOTIFIER, Choices, Item, contents
from apvfio.install.manifest import RECORD
from apvfio.model.errors import Exit
from apvfio.store import ledger_file
from apvfio.store.system import RealSystem
from hosts import a_lease, a_ledger
from other_user import as_nobody

if TYPE_CHECKING:
    from collections.abc import Callable

HOOKS = Path(__file__).parents[3] / "hooks"
PAGE = HOOKS.parent / "cockpit"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree as a host or a package has it before; some of its directories are empty."""
    for directory in (
        "etc/libvirt/hooks",
        "usr/lib",
        "usr/local/lib",
        "usr/share/man/man5",
        "usr/share/bash-completion/completions",
        os.path.dirname(NOTIFIER),
        CALLOUTS[1],
        "var/lib",
    ):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/apvfio").mkdir()
    (tmp_path / "etc/apvfio/apvfio.toml").write_text("[keep]\ncca = 1\n")
    (tmp_path / CALLOUTS[1] / "ap-check.sh").write_text("#!/bin/sh\n")
    return tmp_path


def run(root: Path, *words: str) -> int:
    prefix = ["--prefix", "/usr"] if words[0] == "install" and "--prefix" not in words else []
    return main(["--root", str(root), *words, *prefix])


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """All directories and files with their modes and contents."""
    return {
        str(path.relative_to(root)): (
            stat.S_IMODE(path.lstat().st_mode),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("callout", [[], ["--callout"]])
@pytest.mark.parametrize("prefix", ["/usr", "/usr/local", "/opt/a"])
def test_nothing_is_left_but_configuration(root: Path, callout: list[str], prefix: str) -> None:
    before = everything(root)
    assert run(root, "install", "--prefix", prefix, *callout) == 0
    installed = everything(root).keys() - before.keys()
    assert HOOK in installed
    assert any("callouts" in path for path in installed) is bool(callout)
    assert run(root, "uninstall") == 0
    assert everything(root) == before


def test_another_prefix_moves_the_files(root: Path) -> None:
    before = everything(root)
    run(root, "install", "--prefix", "/usr/local")
    first = {path for path in root.rglob("*") if path.is_file()}
    assert any("usr/local" in str(path) for path in first)
    run(root, "install", "--prefix", "/usr")
    second = {path for path in root.rglob("*") if path.is_file()}
    assert second == {Path(str(path).replace("usr/local/", "usr/")) for path in first}
    assert not list((root / "usr/local/lib").iterdir())
    run(root, "uninstall")
    assert everything(root) == before


def test_a_file_put_there_later_keeps_its_directory(root: Path) -> None:
    run(root, "install")
    other = root / os.path.dirname(HOOK) / "60-other"
    other.write_text("#!/bin/sh\n")
    run(root, "uninstall")
    assert sorted(path.name for path in other.parent.iterdir()) == ["60-other"]


def test_an_interrupted_installation_can_be_removed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(root)
    # A directory in the place of the last file's new version: all others are there by then.
    manual = root / "usr/share/man/man7.apvfio-annotation.7.new"
    manual.mkdir()
    assert run(root, "install") == Exit.HOST
    assert "apvfio-annotation.7 cannot be replaced: Is a directory." in capsys.readouterr().err
    manual.rmdir()
    assert (root / HOOK).exists()
    assert run(root, "uninstall") == 0
    assert everything(root) == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 1, "directories": [], "unfinished": false}', "\udcff", "[" * 100_000]
)
def test_a_damaged_record(root: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    run(root, "install")
    (root / RECORD).write_bytes(text.encode("utf-8", "surrogateescape"))
    for command in ("install", "uninstall"):
        assert run(root, command) == Exit.FAILURE
        assert f"/{RECORD} is damaged. Remove it; 'apvfio install'" in capsys.readouterr().err
    (root / RECORD).unlink()
    assert (run(root, "install"), run(root, "uninstall")) == (0, 0)
    assert not (root / HOOK).exists()


@pytest.mark.parametrize("path", ["../victim", "/victim", "etc/../../victim", ""])
def test_a_record_never_leads_out_of_the_tree(root: Path, path: str) -> None:
    victim = root.parent / "victim"
    victim.write_text(MARK)
    run(root, "install")
    (root / RECORD).write_text(json.dumps({"files": {path: []}, "directories": [path], "unfinished": False}))
    assert run(root, "uninstall") == Exit.FAILURE
    assert victim.read_text() == MARK


def test_a_link_never_leads_out_of_the_tree(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a root file system that is mounted elsewhere, where absolute links mean its own files."""
    host = root.parent / "host"
    host.mkdir()
    (root / "etc/libvirt/hooks/qemu.d").symlink_to(host)
    assert run(root, "install") == Exit.HOST
    assert f"the directory of /{HOOK} leads out of {root} by a link." in capsys.readouterr().err
    assert not list(host.iterdir())
    assert not (root / RECORD).exists()
    # One that stays inside is the host's own business: /usr/local may be elsewhere.
    (root / "etc/libvirt/hooks/qemu.d").unlink()
    (root / "elsewhere").mkdir()
    (root / "etc/libvirt/hooks/qemu.d").symlink_to("../../../elsewhere")
    assert run(root, "install") == 0
    assert (root / "elsewhere/50-apvfio").exists()


def test_all_can_read_what_is_theirs_to_read(root: Path) -> None:
    before = everything(root)
    umask = os.umask(0o077)
    try:
        run(root, "install")
    finally:
        os.umask(umask)
    made = {path: mode for path, (mode, _) in everything(root).items() if path not in before}
    assert {path for path, mode in made.items() if mode not in (0o755, 0o644)} == {
        os.path.dirname(RECORD),
        RECORD,
    }


def test_every_shipped_file_is_installed(root: Path) -> None:
    run(root, "install", "--callout")
    marked = [path for path in root.rglob("*") if path.is_file() and MARK in path.read_text()]
    page = {path for path in marked if path.parent == root / "usr/share/cockpit/apvfio"}
    names = {path.name for path in marked if path not in page}
    assert {path.name for path in page} == {path.name for path in PAGE.iterdir()}
    assert sorted(json.loads((root / RECORD).read_text())["files"]) == sorted(
        str(path.relative_to(root)) for path in marked
    )
    assert names == {
        "50-apvfio",
        "00-apvfio",
        "apvfio-prepare.service",
        "apvfio-reconcile.service",
        "apvfio-reconcile.path",
        "apvfio-metrics.service",
        "apvfio-metrics.timer",
        "90-apvfio.rules",
        "apvfio.conf",
        "apvfio.catalog",
        "apvfio",
        *MANUALS,
    }
    # The hook and the notifier bear the same name.
    assert len(names) + 1 == len(list(HOOKS.iterdir())) + len(MANUALS)


def test_modes_and_interpreter(root: Path) -> None:
    run(root, "install", "--python", "/usr/bin/python3.11")
    hook = root / HOOK
    assert stat.S_IMODE(hook.stat().st_mode) == 0o755
    lines = hook.read_text().splitlines()
    assert lines[0] == "#!/bin/bash -p"
    assert "python=/usr/bin/python3.11" in lines
    unit = root / "usr/lib/systemd/system/apvfio-prepare.service"
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert "ExecStart=/usr/bin/python3.11 -I -m apvfio reconcile" in unit.read_text()
    assert "@APVFIO@" not in unit.read_text()


def seen(path: Path) -> tuple[int, int, int]:
    """Which file it is, and when it was changed last; that it was read does not matter."""
    at = path.lstat()
    return at.st_ino, at.st_mode, at.st_ctime_ns


def written(root: Path) -> dict[Path, tuple[int, int, int, int]]:
    """Each file, which it is and when it or its rights were changed last."""
    files = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    return {path: (at.st_ino, at.st_mode, at.st_mtime_ns, at.st_ctime_ns) for path, at in files.items()}


def test_a_second_time_there_is_nothing_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "install")
    before = written(root)
    capsys.readouterr()
    assert run(root, "install") == 0
    assert "\nnothing to do\n" in capsys.readouterr().out
    assert written(root) == before
    run(root, "uninstall")
    capsys.readouterr()
    assert run(root, "uninstall") == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_what_changed_is_brought_up_to_date(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "install", "--callout", "--python", "/usr/bin/python3.12")
    hook, callout = root / HOOK, root / CALLOUTS[0] / "00-apvfio"
    hook.chmod(0o644)
    capsys.readouterr()
    # The callout was chosen once.
    assert run(root, "install") == 0
    assert not (root / KEPT).exists()
    out = capsys.readouterr().out
    assert f"update  /{HOOK}\n" in out
    assert f"update  /{CALLOUTS[0]}/00-apvfio\n" in out
    assert stat.S_IMODE(hook.stat().st_mode) == 0o755
    assert "ap_check=" in callout.read_text()


def test_an_edited_file_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "install")
    hook, kept = root / HOOK, root / KEPT / HOOK
    shipped = hook.read_bytes()
    edits = [shipped.replace(b"\n", b"\nlogger hook\n", number) for number in (1, 2, 3)]
    for number, edit in enumerate(edits[:2]):
        hook.write_bytes(edit)
        place = f"{KEPT}/{HOOK}.{number}" if number else f"{KEPT}/{HOOK}"
        capsys.readouterr()
        assert run(root, "install") == 0
        says = f"update  /{HOOK}   # edited since its installation: kept as /{place}\n"
        assert says in capsys.readouterr().out
        assert (root / place).read_bytes() == edit
        assert hook.read_bytes() == shipped
    hook.write_bytes(edits[0])
    run(root, "install")
    assert [path.name for path in sorted(kept.parent.iterdir())] == ["50-apvfio", "50-apvfio.1"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    hook.write_bytes(edits[2])
    capsys.readouterr()
    assert run(root, "uninstall", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["files"]
    assert {"path": f"/{HOOK}", "state": EDITED, "kept": f"/{KEPT}/{HOOK}.2"} in shown
    assert not hook.exists()
    assert (root / f"{KEPT}/{HOOK}.2").read_bytes() == edits[2]


@pytest.mark.parametrize("how", ["file", "link", "directory", "fifo"])
def test_what_is_not_ours_stays(root: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    target, elsewhere = root / HOOK, root / "elsewhere"
    target.parent.mkdir()
    elsewhere.write_text(f"# {MARK}\n")
    make: dict[str, Callable[[], object]] = {
        "file": lambda: target.write_text("#!/bin/sh\nexit 0\n"),
        "link": lambda: target.symlink_to(elsewhere),
        "directory": target.mkdir,
        "fifo": lambda: os.mkfifo(target),
    }
    make[how]()
    before = seen(target), os.listdir(root / "usr/lib")
    assert run(root, "install") == Exit.CONFLICT
    assert f"/{HOOK} exists and does not belong to apvfio. Move it away" in capsys.readouterr().err
    assert run(root, "uninstall") == Exit.OK
    assert (seen(target), os.listdir(root / "usr/lib")) == before
    assert elsewhere.read_text() == f"# {MARK}\n"


def test_dry_run_and_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(root)
    assert run(root, "install", "--dry-run", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert not shown["done"]
    assert {"path": f"/{HOOK}", "state": "new"} in shown["files"]
    assert shown["commands"] == shown["findings"] == []
    assert shown["package"] == {}
    assert everything(root) == before
    assert run(root, "install", "--dry-run") == 0
    foretold = capsys.readouterr().out.splitlines()
    assert f"would install /{HOOK}" in foretold
    run(root, "install")
    assert [f"would {line}" for line in capsys.readouterr().out.splitlines()] == foretold
    installed = everything(root)
    assert run(root, "uninstall", "-n") == 0
    assert f"would remove  /{HOOK}" in capsys.readouterr().out.splitlines()
    assert everything(root) == installed


def test_guests_that_hold_queues_keep_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "install")
    system = RealSystem(str(root))
    ledger = a_ledger(a_lease("0", "1", 1), a_lease("1", "1", 2))._replace(boot_id=system.boot_id)
    ledger_file.save(system.files, ledger)
    (root / "run/apvfio/deferred").mkdir()
    assert run(root, "uninstall") == Exit.CONFLICT
    assert (
        "guests g1, g2 hold queues, which nothing returns after apvfio is removed." in capsys.readouterr().err
    )
    assert (root / HOOK).exists()
    assert run(root, "uninstall", "--force") == Exit.OK
    assert not (root / HOOK).exists()
    # What is held must not be forgotten; that somebody watches is true no longer.
    assert ledger_file.load(system.files, system.boot_id).leases
    assert not (root / "run/apvfio/deferred").exists()
    ledger_file.save(system.files, a_ledger()._replace(boot_id=system.boot_id))
    assert run(root, "uninstall") == Exit.OK
    assert not (root / "run/apvfio").exists()


def test_records_of_stops_go_with_it(root: Path) -> None:
    before = everything(root)
    run(root, "install")
    system = RealSystem(str(root))
    for directory, boot in (
        ("run/apvfio", ""),
        ("var/lib/apvfio", f".{system.boot_id}"),
        ("var/lib/apvfio", ".old"),
    ):
        system.files.write(f"{directory}/stopped.1.{a_lease('0', '1', 1).uuid}{boot}", "")
    assert run(root, "uninstall") == 0
    (root / "run").rmdir()
    assert everything(root) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--prefix", "usr"], "--prefix is 'usr'"),
        (["--prefix", "/"], "--prefix is '/'"),
        (["--python", "python3"], "--python is 'python3'"),
        (["--python", "/usr/bin/python3; rm -r /"], "--python is"),
        (["--python", "/usr/bin/a b"], "--python is"),
    ],
)
def test_strange_arguments(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    before = everything(root)
    assert main(["--root", str(root), "install", *words]) == Exit.USAGE
    assert says in capsys.readouterr().err
    assert everything(root) == before


def test_a_simulated_host_has_no_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sim", "new", str(tmp_path / "host")])
    assert main(["--sim", str(tmp_path / "host"), "install"]) == Exit.USAGE
    assert "a simulated host cannot be installed on" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_without_rights_nothing_is_done() -> None:
    """In a directory that another user can see, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        root, copy = Path(directory, "root"), Path(directory, "copy")
        for made in (root, copy):
            made.mkdir(mode=0o755)
        words = as_nobody(copy, "--root", str(root))

        def assert_refused(command: str) -> None:
            done = subprocess.run([*words, command], capture_output=True, text=True, check=False)
            assert (done.returncode, "Permission denied. Run this as root" in done.stderr) == (
                Exit.HOST,
                True,
            )

        assert_refused("install")
        assert not list(root.iterdir())
        run(root, "install")
        before = everything(root)
        assert_refused("uninstall")
        assert everything(root) == before


def test_states(root: Path) -> None:
    items = list(contents(Choices()))
    path = root / HOOK

    def state(items: list[Item], *known: bytes) -> str:
        return look(str(root), items, {HOOK: tuple(map(digest, known))})[0].state

    assert {found.state for found in look(str(root), items, {})} == {NEW}
    main(["--root", str(root), "install", "--python", "/usr/bin/python3"])
    assert {found.state for found in look(str(root), items, {})} == {SAME}
    path.chmod(0o644)
    assert state(items) == CHANGED
    path.write_text(f"{MARK}\n")
    assert (state(items), state([])) == (EDITED, EDITED)
    known = path.read_bytes()
    assert (state(items, b"", known), state([], b"", known)) == (CHANGED, OBSOLETE)
    path.write_bytes(known.replace(b"\n", b"\r\n"))
    assert (state(items, known), state([], known)) == (EDITED, EDITED)
    path.write_bytes(b"\xff\xfe")
    assert (state(items), state([])) == (FOREIGN, FOREIGN)
    path.unlink()
    assert look(str(root), (), {HOOK: ()}) == []

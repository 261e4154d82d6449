# SPDX-License-Identifier: Apache-2.0
"""The real chzdev, where there is one: run with absolute masks, and not believed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apvfio.engine import chzdev
from apvfio.mdev import programs
from apvfio.model import persistent_masks
from apvfio.model.errors import ApvfioError, ConflictError
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet
from apvfio.store.system import RealSystem
from mask_changes import change
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHZDEV = """\
#!/bin/sh
echo "$*" > {root}/argv
env > {root}/env
{action}
"""


@pytest.fixture
def with_chzdev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("apvfio.engine.chzdev.find_chzdev", lambda _: str(tmp_path / "chzdev"))
    return tmp_path


def fake_chzdev(root: Path, action: str) -> None:
    (root / "chzdev").write_text(CHZDEV.format(root=root, action=action))
    (root / "chzdev").chmod(0o755)


class StoringMachine(Machine):
    """A machine whose chzdev leaves its result in a file of the test's."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        (root / "result").write_text(
            persistent_masks.format_rule(persistent_masks.StoredMasks(ALL_IDS - IdSet([5]), NO_IDS))
        )
        real = self.files.read

        def read(path: str) -> str | None:
            done = root / "argv"
            return (
                (root / "result").read_text()
                if path == persistent_masks.RULE and done.exists()
                else real(path)
            )

        self.files.read = read  # type: ignore[method-assign]


def test_chzdev_stores_absolute_masks(with_chzdev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_chzdev(with_chzdev, "echo ap device type configured")
    machine = StoringMachine(with_chzdev)
    monkeypatch.setenv("SYSFS_ROOT", "/elsewhere")
    change(machine, "-5", "-0-255", persistent=True)
    argv = (with_chzdev / "argv").read_text()
    assert argv == "--type ap --persistent --yes apmask=0-4,6-255 aqmask=-0-255\n"
    assert "SYSFS_ROOT" not in (with_chzdev / "env").read_text()
    assert persistent_masks.RULE not in machine.files.texts


def test_chzdev_is_run_when_the_lock_is_free_again(
    with_chzdev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes the lock itself, and would wait 99 s for us.
    fake_chzdev(with_chzdev, f"test ! -e {with_chzdev}/locked")
    machine = StoringMachine(with_chzdev)

    @contextmanager
    def lock() -> Iterator[None]:
        (with_chzdev / "locked").touch()
        yield
        (with_chzdev / "locked").unlink()

    monkeypatch.setattr(machine, "lock", lock)
    change(machine, "-5", "-0-255", persistent=True)
    assert (with_chzdev / "argv").exists()


def test_only_a_real_machine_has_a_chzdev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_chzdev(tmp_path, "")
    monkeypatch.setattr(programs, "PATH", f"{tmp_path}/none:{tmp_path}")
    assert chzdev.find_chzdev(RealSystem("/")) == str(tmp_path / "chzdev")
    assert chzdev.find_chzdev(RealSystem(str(tmp_path))) is None
    assert chzdev.find_chzdev(Machine()) is None
    monkeypatch.setattr(programs, "PATH", f"{tmp_path}/none")
    assert chzdev.find_chzdev(RealSystem("/")) is None


def test_chzdev_is_not_run_for_nothing(with_chzdev: Path) -> None:
    fake_chzdev(with_chzdev, "exit 1")
    change(Machine(), "-5", None)
    assert not (with_chzdev / "argv").exists()


@pytest.mark.parametrize(
    ("action", "kind", "says"),
    [
        ("echo chzdev: conflicts with mdev >&2; exit 9", ConflictError, "exit code 9.*conflicts with mdev"),
        ("exit 15", ApvfioError, "could not store the masks .exit code 15"),
        ("true", ApvfioError, "chzdev reported success, but /etc/udev/rules.d/41-ap.rules does not have"),
    ],
)
def test_chzdev_is_not_believed(with_chzdev: Path, action: str, kind: type[ApvfioError], says: str) -> None:
    fake_chzdev(with_chzdev, action)
    with pytest.raises(kind, match=says):
        change(Machine(), "-5", None, persistent=True)


def test_a_chzdev_that_does_not_run(with_chzdev: Path) -> None:
    (with_chzdev / "chzdev").write_text("no program")
    (with_chzdev / "chzdev").chmod(0o755)
    with pytest.raises(ApvfioError, match="could not be run"):
        change(Machine(), "-5", None, persistent=True)

# SPDX-License-Identifier: Apache-2.0
"""What docs/procedure.md shows is done on the real drivers, by the real tools, line by line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hosts import a_matrix, mdev
from lifecycle_cases import state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_env import MachineEnv

PAGE = Path(__file__).parents[2] / "docs" / "procedure.md"
RULES = Path("/etc/udev/rules.d/41-ap.rules")
MASKS = [Path("/sys/bus/ap/apmask"), Path("/sys/bus/ap/aqmask")]
BY_CHZDEV, BY_APVFIO, BY_SYSFS, BACK, BACK_AT_BOOT = range(5)
FREED = ["0x7fdf" + "f" * 60, "0x97ff" + "f" * 60]


def blocks() -> list[list[str]]:
    """The page's commands, those that stand together in one list."""
    found: list[list[str]] = [[]]
    for line in PAGE.read_text().splitlines():
        if line.startswith("    # "):
            found[-1].append(line.removeprefix("    # "))
        elif found[-1]:
            found.append([])
    return found[:-1] if not found[-1] else found


def follow(block: int) -> dict[str, str]:
    """Type the commands of a block; what each said."""
    said = {}
    for command in blocks()[block]:
        typed = (
            command.replace("apvfio ", "python3 -m apvfio ", 1) if command.startswith("apvfio") else command
        )
        if command.startswith("chzdev"):
            typed += " --no-root-update"  # there is no initial RAM disk here
        done = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (command, done.stderr)
        said[command] = done.stdout
    return said


def active() -> list[str]:
    return [mask.read_text().strip() for mask in MASKS]


@pytest.fixture(autouse=True)
def default_masks() -> Iterator[None]:
    yield
    RULES.unlink(missing_ok=True)
    for mask in MASKS:
        mask.write_text("0x" + "f" * 64)


def test_by_chzdev_and_by_apvfio_is_one() -> None:
    theirs = follow(BY_CHZDEV)
    assert any(line.split()[0] == "ap" for line in theirs["lszdev --list-types"].splitlines())
    assert active() == FREED
    rules = RULES.read_text()
    follow(BACK)
    assert active() == ["0x" + "f" * 64] * 2
    follow(BACK_AT_BOOT)
    assert not RULES.exists()
    ours = follow(BY_APVFIO)
    assert (active(), RULES.read_text()) == (FREED, rules)
    assert ours["apvfio masks"] == theirs["lszdev --type ap"]
    drivers = [line.split()[-1] for line in theirs["lszcrypt -V"].splitlines() if "." in line.split()[0]]
    owners = [line.split()[-2:] for line in ours["apvfio queues"].splitlines() if "." in line.split()[0]]
    assert drivers.count("vfio_ap") == 11
    assert [driver for driver, _ in owners] == drivers
    assert [owner for _, owner in owners].count("free") == 11


@pytest.mark.parametrize("block", [BY_CHZDEV, BY_SYSFS])
def test_a_guest_gets_what_is_free_and_leaves_it_free(env: MachineEnv, block: int) -> None:
    follow(block)
    before = state(env)
    assert active() == FREED
    env.define("db1", a_matrix("0,10", "1-2,4"), mdev(1))
    env.virsh("start", "db1")
    assert active() == FREED
    assert list(state(env).host.mdevs) == [mdev(1)]
    env.virsh("destroy", "db1")
    assert state(env) == before
    follow(BACK)
    assert active() == ["0x" + "f" * 64] * 2

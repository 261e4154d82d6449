# SPDX-License-Identifier: Apache-2.0
"""Queues whose reset takes long, and cards that come: what the real kernel leaves to systemd's units."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apvfio.engine.deferred import DIRECTORY
from apvfio.model.host import MaskBits
from apvfio.model.ids import IdSet
from apvfio.store.ledger_file import load
from apvfio.store.policy_file import POLICY
from hosts import a_matrix, mdev
from lifecycle_cases import state
from this_kernel import where_masks_are_slow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine_env import MachineEnv

MODEL = Path("/sys/module/ap_emul/parameters")
HANDOVER = Path("/", DIRECTORY)
RULE = Path("hooks/90-apvfio.rules")


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def reconcile(*words: str) -> str:
    """What apvfio-reconcile.service does; this machine has no systemd."""
    return run("python3", "-m", "apvfio", "reconcile", *words)


def pending_bits(env: MachineEnv) -> MaskBits:
    return load(env.system.files, env.system.boot_id).pending


@pytest.fixture
def slow(env: MachineEnv) -> Iterator[MachineEnv]:
    """Somebody watches, and a reset takes 0.3 s."""
    HANDOVER.mkdir(mode=0o700, parents=True, exist_ok=True)
    (MODEL / "reset_ms").write_text("300")
    yield env
    (MODEL / "reset_ms").write_text("0")
    reconcile()
    HANDOVER.rmdir()


def test_a_quick_release_within_the_budget_is_not_deferred(slow: MachineEnv) -> None:
    (MODEL / "reset_ms").write_text("0")
    slow.system.files.write(POLICY, "[time]\nrelease-budget = 60\n", 0o644)
    before = state(slow)
    slow.define("quick", a_matrix("0,10", "1,2,4"), mdev(1))
    slow.virsh("start", "--paused", "quick")
    try:
        slow.virsh("destroy", "quick")
    finally:
        slow.system.files.remove(POLICY)
    assert state(slow) == before
    assert list(HANDOVER.iterdir()) == []


@where_masks_are_slow
def test_a_slow_release_leaves_pending_returns_to_the_unit(slow: MachineEnv) -> None:
    before = state(slow)
    slow.define("slow", a_matrix("0,10", "1,2,4"), mdev(1))
    slow.virsh("start", "--paused", "slow")
    running = state(slow).host
    slow.virsh("destroy", "slow")
    assert len(list(HANDOVER.iterdir())) == 1
    assert state(slow).host == running._replace(mdevs={})
    assert pending_bits(slow) == MaskBits(IdSet([0, 10]))

    slow.virsh("start", "--paused", "slow")
    assert state(slow).host == running
    slow.virsh("destroy", "slow")
    assert pending_bits(slow) == MaskBits(IdSet([0, 10]))

    # Eight queues go at once: nobody knows yet how slow they are.
    said = json.loads(reconcile("--wait", "5", "--json"))
    assert [step["value"] for step in said["steps"]] == ["+0,+10"]
    assert list(HANDOVER.iterdir()) == []
    assert state(slow) == before


@where_masks_are_slow
def test_guests_start_while_queues_are_returned(slow: MachineEnv) -> None:
    before = state(slow)
    slow.define("many", a_matrix("0-1,10", "1,2,4,27"), mdev(1))
    slow.define("other", a_matrix("10", "4"), mdev(2))
    slow.virsh("start", "--paused", "many")
    slow.virsh("destroy", "many")
    assert pending_bits(slow) == MaskBits(IdSet([0, 1, 10]))
    with subprocess.Popen(["python3", "-m", "apvfio", "reconcile"], stdout=subprocess.DEVNULL) as unit:
        slow.virsh("start", "--paused", "other")
        assert unit.wait(120) == 0
    assert state(slow).host.mdevs == {mdev(2): a_matrix("10", "4")}
    reconcile()
    assert pending_bits(slow) == load(slow.system.files, slow.system.boot_id).needed_bits()
    slow.virsh("destroy", "other")
    reconcile()
    assert state(slow) == before


@pytest.fixture
def rule() -> Iterator[None]:
    """The rule is in force."""
    installed = Path("/etc/udev/rules.d/90-apvfio.rules")
    installed.write_bytes(RULE.read_bytes())
    run("udevadm", "control", "--reload")
    yield
    installed.unlink()
    run("udevadm", "control", "--reload")


def test_udev_finds_no_fault_in_the_rule() -> None:
    assert "0 files" not in run("udevadm", "verify", str(RULE))


def test_a_card_that_appears_wants_the_unit_and_its_queues_do_not(rule: None) -> None:
    adapters = (MODEL / "adapters").read_text().strip()
    (MODEL / "adapters").write_text(f"{adapters},05=cca")
    try:
        run("udevadm", "settle")
        card = run("udevadm", "info", "/sys/devices/ap/card05")
        assert "E: SYSTEMD_WANTS=apvfio-reconcile.service\n" in card
        assert "E: CURRENT_TAGS=:systemd:\n" in card
        # Bound by now: the last event was not the one that added it.
        assert "E: DRIVER=cex4card\n" in card
        queue = run("udevadm", "info", "/sys/devices/ap/card05/05.0001")
        assert "E: DRIVER=cex4queue\n" in queue
        assert "SYSTEMD_WANTS" not in queue
        assert "TAGS" not in queue
        assert reconcile("--wait", "10") == "nothing to do\n"
    finally:
        (MODEL / "adapters").write_text(adapters)
        run("udevadm", "settle")
    assert not Path("/sys/devices/ap/card05").exists()

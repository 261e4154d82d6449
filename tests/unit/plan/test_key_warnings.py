# SPDX-License-Identifier: Apache-2.0
"""A plan warns of master keys and of guests that had the queues before."""

from __future__ import annotations

import time
from unittest.mock import ANY

import pytest

from apvfio.engine import plan_start
from apvfio.engine.preview import preview_plan
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.kernel.snapshot import read_host
from apvfio.model.matrix import Apqn
from apvfio.store.mkvps_file import load
from hosts import a_request, guest
from memory_host import Machine

KEYS = "WK CUR: valid 0x" + "ab" * 32 + "\nWK NEW: empty -"


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_queue_with_master_keys_is_named(machine: Machine) -> None:
    machine.kernel.state.queues[Apqn(10, 1)].mkvps = KEYS
    warnings = preview_plan(machine, a_request("10", "1-2")).warnings
    assert any(w.startswith("0a.0001 has master keys: the guest will") for w in warnings)
    machine.kernel.state.queues[Apqn(10, 2)].mkvps = KEYS
    warnings = preview_plan(machine, a_request("10", "1-2")).warnings
    assert any(w.startswith("0a.0001, 0a.0002 have master keys") for w in warnings)


def test_a_queue_that_another_guest_had_is_named(machine: Machine) -> None:
    assert not any("before" in w for w in preview_plan(machine, a_request("0", "1-2", 2)).warnings)
    start_guest(machine, a_request("0", "1", 1))
    release_guest(machine, guest(1))
    warnings = preview_plan(machine, a_request("0", "1-2", 2)).warnings
    assert warnings[-1].startswith("guest g1 had 00.0001 before")
    assert not any("before" in w for w in preview_plan(machine, a_request("0", "1-2", 1)).warnings)
    start_guest(machine, a_request("0", "1-2", 2))
    release_guest(machine, guest(2))
    assert machine.ledger.last_holder == {Apqn(0, 1): "g2", Apqn(0, 2): "g2"}


def test_whatever_is_taken_is_asked_once_before_and_remembered(machine: Machine) -> None:
    """Also for a guest that requests no key, and also queues that nobody requested."""
    for domain in (1, 2):
        machine.kernel.state.queues[Apqn(10, domain)].mkvps = KEYS
    asked = []
    read = machine.sysfs.read

    def watching(path: str) -> str:
        asked.append(path)
        return read(path)

    machine.sysfs.read = watching
    start_guest(machine, a_request("10", "1"))
    assert read_host(machine.sysfs).mdevs
    shown = [path for path in asked if path.endswith("mkvps")]
    taken = [queue for queue, driver in machine.host.drivers.items() if driver == "vfio_ap"]
    assert len(shown) == len(taken) > 1
    assert set(load(machine.files)) == {Apqn(10, 1), Apqn(10, 2)} & set(taken)
    assert load(machine.files)[Apqn(10, 1)].registers == KEYS


def test_a_card_that_is_slow_to_answer_holds_up_no_start(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_start, "KEYS_PATIENCE", 0.05)
    asked = []
    read = machine.sysfs.read

    def slow(path: str) -> str:
        if path.endswith("mkvps"):
            asked.append(path)
            time.sleep(0.03)
        return read(path)

    machine.sysfs.read = slow
    start_guest(machine, a_request("10", "1"))
    taken = [queue for queue, driver in machine.host.drivers.items() if driver == "vfio_ap"]
    assert machine.host.mdevs
    # The queue that was asked for comes first.
    assert asked[0] == "bus/ap/devices/0a.0001/mkvps"
    assert len(asked) == 2 < len(taken)


def test_remembered_keys_are_shown_with_their_time(machine: Machine) -> None:
    machine.kernel.state.queues[Apqn(10, 1)].mkvps = KEYS
    assert preview_plan(machine, a_request("10", "1")).as_json()["master_keys"] == {
        "0a.0001": {"mkvps": {"wk": "ab" * 32}, "seen": ANY, "source": "read"}
    }
    start_guest(machine, a_request("10", "1"))
    found = preview_plan(machine, a_request("10", "1"))
    assert found.as_json()["master_keys"] == {
        "0a.0001": {"mkvps": {"wk": "ab" * 32}, "seen": ANY, "source": "remembered"}
    }
    assert not any("has master keys" in text for text in found.warnings)

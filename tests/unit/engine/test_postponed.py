# SPDX-License-Identifier: Apache-2.0
"""A reconcile that does nothing yet says for which guests it waits, and until when."""

from __future__ import annotations

import re

from apvfio.engine.postponed import waits
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.store import stop_records
from apvfio.store.processes import GRACE
from hosts import guest
from memory_host import Machine
from model.befores import ONE


def test_a_guest_without_a_process_is_waited_for() -> None:
    machine = Machine()
    machine.running = set()
    start_guest(machine, ONE)
    assert reconcile_host(machine.process()).steps == []
    (said,) = waits(machine, machine.ledger)
    found = re.fullmatch(
        r"guest g1: it has no QEMU process, but may still be starting; a reconcile after "
        r"\d\d:\d\d:\d\d \(in (\d+) s\) returns its queues if it has none then",
        said,
    )
    assert found
    assert GRACE - 5 < int(found[1]) <= GRACE


def test_a_guest_that_runs_is_not() -> None:
    machine = Machine()
    machine.running = {guest(1)}
    start_guest(machine, ONE)
    assert waits(machine, machine.ledger) == []


def test_a_guest_that_stopped_and_is_not_gone_is_named_with_its_process() -> None:
    machine = Machine()
    machine.running = {guest(1)}
    start_guest(machine, ONE)
    stop_records.record(machine, guest(1))
    assert reconcile_host(machine.process()).steps == []
    assert waits(machine, machine.ledger) == [
        "guest g1: its stop was reported, but process 1001 still has its mediated device; "
        "the first call of apvfio after the end of that process returns its queues"
    ]


def test_nothing_is_said_where_processes_are_unknown() -> None:
    machine = Machine()
    start_guest(machine, ONE)
    assert waits(machine, machine.ledger) == []

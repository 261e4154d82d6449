# SPDX-License-Identifier: Apache-2.0
"""The audit log: it says what the ledger says, whoever dies, and whatever becomes of the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events import audit_log, record
from apvfio.events.event import Event, from_line, to_line
from apvfio.events.journal import sentence
from apvfio.events.ledger_changes import holders
from apvfio.events.queue_history import spans
from apvfio.model.errors import ApvfioError, ConflictError, HostError
from apvfio.model.host import AP_MDEVS
from apvfio.model.ledger import Ledger
from apvfio.model.matrix import Apqn
from hosts import a_matrix, a_request, guest, mdev
from memory_host import Killed, Machine

if TYPE_CHECKING:
    from collections.abc import Callable


def kinds(machine: Machine) -> list[str]:
    return [event.kind for event in events(machine)]


def events(machine: Machine) -> list[Event]:
    found = list(audit_log.read(machine.files))
    assert None not in found
    return [event for event in found if event]


def agrees(machine: Machine) -> bool:
    return audit_log.replayed(audit_log.read(machine.files)) == holders(machine.ledger)


def a_life(machine: Machine) -> None:
    start_guest(machine, a_request("0,10", "1-2"))
    release_guest(machine, guest(1))


def test_a_guests_life() -> None:
    machine = Machine()
    start_guest(machine, a_request("0,10", "1-2"))
    assert kinds(machine) == ["planned", "started"]
    planned, started = events(machine)
    assert started.matrix == planned.matrix == a_matrix("0,10", "1-2")
    assert planned.collateral == ("01.0001", "01.0002")
    assert "freed by domains" in sentence(planned)
    release_guest(machine, guest(1))
    assert kinds(machine) == ["planned", "started", "stopped"]
    assert agrees(machine)


def test_a_start_that_fails_is_not_one() -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1"))
    with pytest.raises(ConflictError):
        start_guest(machine, a_request("0", "1", 2))
    machine.faults.arm(2, lambda: (_ for _ in ()).throw(OSError(5, "injected")))
    with pytest.raises(ApvfioError):
        start_guest(machine, a_request("1", "4", 3))
    assert [event.guest for event in events(machine) if event.kind == "started"] == ["g1"]
    assert agrees(machine)


def test_a_pending_return_is_an_event_while_it_is_pending() -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1,2,4"))
    machine.kernel.write("bus/ap/aqmask", "-27")
    machine.kernel.write(AP_MDEVS.create, mdev(9))
    for name, text in (("adapter", "0"), ("domain", "27")):
        machine.kernel.write(f"{AP_MDEVS.device(mdev(9))}/assign_{name}", text)
    release_guest(machine, guest(1))
    assert [event.text for event in events(machine) if event.kind == "pending"] == ["apmask 0"]
    machine.kernel.write(AP_MDEVS.remove(mdev(9)), "1")
    reconcile_host(machine)
    assert [event.text for event in events(machine) if event.kind == "pending"] == ["apmask 0", ""]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("n", range(1, 3))
def test_whoever_dies_the_next_one_writes_what_is_missing(n: int, late: bool) -> None:
    """Killed before or after the n-th line: one reconcile, and the audit log says what the ledger says."""
    machine = Machine()
    append, count = machine.files.append, 0

    def deadly(path: str, text: str) -> None:
        nonlocal count
        count += 1
        if late or count != n:
            append(path, text)
        if count == n:
            raise Killed

    machine.files.append = deadly  # type: ignore[method-assign]
    with pytest.raises(Killed):
        a_life(machine)
    machine.files.append = append  # type: ignore[method-assign]
    reconcile_host(machine)
    assert agrees(machine)
    release_guest(machine, guest(1))
    assert agrees(machine)


def test_a_full_disk_costs_no_start_and_the_gap_is_told() -> None:
    machine = Machine()
    append = machine.files.append

    def full(path: str, text: str) -> None:
        append(path, text[: len(text) // 2])
        raise HostError("the disk is full.")

    machine.files.append = full  # type: ignore[method-assign]
    start_guest(machine, a_request("0", "1"))
    machine.files.append = append  # type: ignore[method-assign]
    start_guest(machine, a_request("1", "2", 2))
    found = [event for event in audit_log.read(machine.files) if event]
    assert [(e.guest, e.late) for e in found if e.kind == "started"] == [("g1", True), ("g2", False)]
    assert agrees(machine)


def test_a_boot_ends_what_was_held() -> None:
    machine = Machine()
    start_guest(machine, a_request("0", "1"))
    rebooted = Machine()
    rebooted.boot_id = "another"
    rebooted.files.texts[audit_log.AUDIT_LOG] = machine.files.texts[audit_log.AUDIT_LOG]
    start_guest(rebooted, a_request("0", "1"))
    first, second = spans(events(rebooted), Apqn(0, 1))
    assert (first.ended_before, second.end) == (True, None)
    assert agrees(rebooted)


def test_a_full_audit_log_goes_on_in_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "FULL", 3000)
    monkeypatch.setattr(audit_log, "FILES", 10)
    machine = Machine()
    start_guest(machine, a_request("1", "27", 7))
    for _ in range(60):
        a_life(machine)
    assert sum(path.startswith(audit_log.AUDIT_LOG) for path in machine.files.texts) == audit_log.FILES
    assert agrees(machine)
    (span,) = spans(events(machine), Apqn(1, 27))
    assert (span.guest, span.begun_before, span.end) == ("g7", True, None)


def test_spans() -> None:
    def event(time: float, kind: str, number: int = 1, adapters: str = "0") -> Event:
        return Event(time, kind, "b", f"g{number}", guest(number), mdev(number), a_matrix(adapters, "1"))

    story = [
        event(1, "started"),
        event(2, "changed", adapters="10"),
        event(3, "changed", adapters="0,10"),
        event(4, "stopped"),
        event(5, "started", 2),
    ]
    found = [(span.guest, span.begin, span.end) for span in spans(story, Apqn(0, 1))]
    assert found == [("g1", 1, 2), ("g1", 3, 4), ("g2", 5, None)]


HOSTILE = 'x\n{"v":1,"kind":"stopped"}\u2028\x1b[2J\udcff'


@pytest.mark.parametrize("make", [lambda: Event(1.5, "refused", "b", HOSTILE, text=HOSTILE)])
def test_names_break_no_line(make: Callable[[], Event]) -> None:
    line = to_line(make())
    assert line.count("\n") == 1
    assert from_line(line) == make()
    assert sentence(make()).isprintable()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "null",
        '{"v": 2, "time": 1, "kind": "started"}',
        '{"v": 1, "time": 1, "kind": "exploded"}',
        '{"v": 1, "time": "now", "kind": "started"}',
        '{"v": 1, "time": 1e300, "kind": "started"}',
        '{"v": 1, "time": -1, "kind": "started"}',
        '{"v": 1, "time": NaN, "kind": "started"}',
        '{"v": 1, "time": 1, "kind": ["started"]}',
        '{"v": 1, "time": 1, "kind": "started", "guest": 5}',
        '{"v": 1, "time": 1, "kind": "started", "adapters": "9-1"}',
        '{"v": 1, "time": 1, "kind": "started", "collateral": "0a"}',
        '{"v": 1, "time": 1, "kind": "started", "holds": "x"}',
        "\x00\ufffd",
    ],
)
def test_a_damaged_line_is_one_line(line: str) -> None:
    machine = Machine()
    a_life(machine)
    machine.files.texts[audit_log.AUDIT_LOG] += line
    a_life(machine)
    assert len([event for event in audit_log.read(machine.files) if event and event.kind == "started"]) == 2
    assert agrees(machine)


def test_nothing_is_written_where_nothing_happens() -> None:
    machine = Machine()
    reconcile_host(machine)
    record.changes(machine, [Ledger(machine.boot_id, {})])
    assert machine.files.texts == {}

# SPDX-License-Identifier: Apache-2.0
"""What a call costs as leases and the audit log grow: function calls, copies and bytes are counted."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

import apvfio
from apvfio.engine import preview
from apvfio.engine.deferred import Pace
from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events import audit_log
from apvfio.events.event import Event, to_line
from apvfio.events.queue_history import spans
from apvfio.model.host import MaskBits
from apvfio.model.ids import IdSet
from apvfio.model.ledger import (
    BY_ADAPTERS,
    BY_DOMAINS,
    BY_OVERRIDES,
    CHANGING,
    ENDING,
    HELD,
    STARTING,
    Claim,
    LeaseBefore,
    Ledger,
)
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.process import Process
from apvfio.plan.drift import drift
from apvfio.sim.kernel import SimKernel
from apvfio.sim.state import Mdev
from apvfio.store import ledger_file
from hosts import BOOT, a_lease, a_matrix, a_request, guest, mdev
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from apvfio.model.ledger import Lease

_SOURCES = f"{os.path.dirname(apvfio.__file__)}/"
_SIMULATOR = f"{_SOURCES}sim/"
FEW, MANY = 50, 200
NEW = 5000
"""The number of the guest that starts."""
CASES = ("held", "gone", "leaning", "dead", "starting", "ending", "changing", "overrides", "promises")
_WAYS = {"leaning": BY_DOMAINS, "overrides": BY_OVERRIDES}
_STATES = {"starting": STARTING, "ending": ENDING, "changing": CHANGING}


def a_queue(number: int) -> Apqn:
    """The queue of guest number ``number``, on one of the adapters from 20 on."""
    return Apqn(20 + number // 25, number % 25)


def crowded(case: str, count: int) -> Machine:
    """A host with so many leases of one kind; adapter 0 is free."""
    adapters = IdSet(range(20, a_queue(count - 1).adapter + 1))
    cards = dict.fromkeys([0, *adapters], "cca")
    machine = Machine(SimKernel.new(adapters=cards, domains=IdSet(range(25))))
    state = machine.kernel.state
    leases: dict[str, Lease] = {}
    for number in range(count):
        queue = a_queue(number)
        way, how = _WAYS.get(case, BY_ADAPTERS), _STATES.get(case, HELD)
        lease = a_lease(str(queue.adapter), str(queue.domain), number, way, how)
        if case == "changing":
            lease = lease._replace(before=LeaseBefore(lease.matrix, BY_ADAPTERS, Process(1, 1)))
        leases[lease.mdev] = lease._replace(since=1)
        if case not in ("gone", "starting", "promises"):
            state.mdevs[lease.mdev] = Mdev(number, lease.matrix)
        state.queues[queue].driver = "vfio_ap"
        if case == "overrides":
            state.queues[queue].override = "vfio_ap"
            state.overrides += 1
    ledger = Ledger(BOOT, leases, MaskBits(adapters))
    if case == "overrides":
        ledger = Ledger(BOOT, leases, overrides={a_queue(number): "" for number in range(count)})
    else:
        state.apmask -= adapters
        state.masks_in_use = True
    if case == "promises":
        promised = {m: Claim(m, lease.matrix, BY_ADAPTERS, Process(1, 1)) for m, lease in leases.items()}
        ledger = ledger._replace(leases={}, claims=promised)
    if case == "dead":
        machine.running = set()
    if case in ("changing", "promises"):
        machine.dead.add(1)
    ledger_file.save(machine.files, ledger)
    return machine


def counted(work: Callable[[], object]) -> tuple[int, int]:
    """How many functions of apvfio ``work`` calls outside the simulator, and how many ledgers it makes."""
    calls = copies = inside = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls, copies, inside
        file = frame.f_code.co_filename
        if file.startswith(_SIMULATOR) and event in ("call", "return"):
            inside += 1 if event == "call" else -1
        elif event == "call" and file.startswith(_SOURCES) and not inside:
            calls += 1
            copies += frame.f_code.co_name == "_replace" and isinstance(frame.f_locals["self"], Ledger)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls, copies


WORKS: dict[str, Callable[[Machine], object]] = {
    "start": lambda machine: start_guest(machine, a_request("0", "1", NEW)),
    "stop": lambda machine: release_guest(machine, guest(1), force=True),
    "reconcile": reconcile_host,
    "what reconcile would do": preview.preview_reconcile,
    "drift": lambda machine: drift(machine.host, machine.ledger),
}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("case", CASES)
def test_four_times_the_leases_cost_four_times_as_much(
    case: str, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "portion", property(lambda _: 1 << 16))  # however long the host's part takes
    host, larger_host = crowded(case, FEW), crowded(case, MANY)
    few, copies_of_few = counted(lambda: WORKS[work](host))
    many, copies_of_many = counted(lambda: WORKS[work](larger_host))
    assert many < few * MANY / FEW * 1.1
    # A copy of the ledger has all leases in it, and no function is called for one of them.
    assert copies_of_many == copies_of_few


def read_of(machine: Machine, work: Callable[[], object]) -> int:
    """How many characters of the audit log ``work`` reads as a whole file."""
    read, total = machine.files.read, 0

    def reading(path: str) -> str | None:
        nonlocal total
        text = read(path)
        total += len(text or "") if path.startswith(audit_log.AUDIT_LOG) else 0
        return text

    machine.files.read = reading  # type: ignore[method-assign]
    work()
    machine.files.read = read  # type: ignore[method-assign]
    return total


def enormous(line: str = "") -> Machine:
    """A host whose audit log has six files of 3 MB, which end with ``line``."""
    machine = Machine()
    event = Event(1.0, "started", "b", "g7", guest(7), mdev(7), a_matrix("1", "1"))
    text = to_line(event) * (3_000_000 // len(to_line(event)))
    for number in range(6):
        machine.files.texts[f"{audit_log.AUDIT_LOG}.{number}" if number else audit_log.AUDIT_LOG] = (
            text + line
        )
    return machine


@pytest.mark.parametrize("line", ["", to_line(Event(1.0, "mechanism")), "{\n"])
def test_an_enormous_audit_log_is_not_read_by_a_start(line: str) -> None:
    machine = enormous(line)
    assert read_of(machine, lambda: start_guest(machine, a_request("0", "1"))) == 0
    assert read_of(machine, lambda: reconcile_host(machine)) == 0
    assert read_of(machine, lambda: release_guest(machine, guest(1))) == 0
    newest = [event.kind for event in audit_log.read(machine.files, newest=1) if event]
    assert newest[-2:] == ["started", "stopped"]


def test_a_log_of_the_usual_size_is_read_once_when_it_lacks_something() -> None:
    machine = Machine()
    start_guest(machine, a_request("10", "2", 2))
    while machine.files.size(audit_log.AUDIT_LOG) < audit_log.FULL - 500:
        audit_log.note(machine.files, Event(1.0, "refused", guest="g9", text="no"))
    assert read_of(machine, lambda: start_guest(machine, a_request("0", "1"))) == 0
    audit_log.note(machine.files, Event(1.0, "refused", guest="g9", text="no"))
    machine.files.texts[audit_log.AUDIT_LOG] += "{\n"
    read = read_of(machine, lambda: reconcile_host(machine))
    assert audit_log.FULL - 500 < read < 2 * audit_log.FULL


def test_a_new_file_is_begun_once_however_many_guests_it_begins_with() -> None:
    machine = crowded("held", MANY)
    for number in range(NEW, NEW + 4):
        start_guest(machine, a_request("0", str(number - NEW), number))
    assert machine.files.size(audit_log.AUDIT_LOG) < audit_log.FULL + MANY * audit_log._PER_HOLDER
    assert f"{audit_log.AUDIT_LOG}.1" not in machine.files.texts


def test_who_is_not_at_the_beginning_of_a_file_has_lost_its_queues() -> None:
    machine = enormous()
    start_guest(machine, a_request("0", "1"))
    kept = [event for event in audit_log.read(machine.files) if event]
    assert mdev(7) not in audit_log.replayed(kept)
    (span,) = spans(kept, Apqn(1, 1))
    assert (span.guest, span.ended_before) == ("g7", True)
    assert span.end is not None
    (other,) = spans(kept, Apqn(0, 1))
    assert (other.guest, other.end) == ("g1", None)


def test_covering_tells_what_each_matrix_does() -> None:
    from apvfio.model.matrix import covering

    matrices = [a_matrix("0,255", "1-2"), a_matrix("0", "255"), Matrix(IdSet([7]))]
    covers = covering(matrices)
    for adapter in (0, 7, 254, 255):
        for domain in (0, 1, 2, 254, 255):
            queue = Apqn(adapter, domain)
            assert covers(queue) == any(matrix.holds(queue) for matrix in matrices)

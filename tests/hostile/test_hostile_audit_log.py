# SPDX-License-Identifier: Apache-2.0
"""The audit log garbled, cut, swapped: no start fails for it, and what can be told is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.engine.reconcile import reconcile_host
from apvfio.engine.start import start_guest
from apvfio.engine.stop import release_guest
from apvfio.events import audit_log
from apvfio.events.event import Event, to_line
from apvfio.events.ledger_changes import holders
from apvfio.model.errors import Exit
from hostile_input import (
    domain,
    prepare,
    require_answer,
    require_line,
    require_sentence,
    run,
    simulated,
    trying,
)
from hosts import a_request, guest, mdev
from memory_host import Machine
from planted_files import KINDS, Planted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BELOW = "var/lib/apvfio"
TOO_LARGE = (64 << 20) + 1


def lived() -> Machine:
    """A host on which a guest has come and gone, and another runs."""
    machine = Machine()
    start_guest(machine, a_request("0", "1"))
    start_guest(machine, a_request("10", "2", 2))
    release_guest(machine, guest(1))
    return machine


LOGGED = lived().files.texts[audit_log.AUDIT_LOG]
FIELDS = [(number, name) for number, line in enumerate(LOGGED.splitlines()) for name in json.loads(line)]
ANYTHING: list[object] = [
    None, True, 0, -1, 1.5, float("nan"), 1 << 70, "", "x", "9-1", "0" * 70_000, "\x1b[2J\n", "\ud800", [],
    [[]], {}, {"x": 1}, [1], {"started": -1}, {"started": 1 << 200},
]  # fmt: skip


def require_harmless(text: str) -> Machine:
    """Whatever the audit log says: it is shown or passed over, guests start and stop, and that is in it.

    The host afterwards, on which nobody has anything.
    """
    machine = lived()
    machine.files.texts[audit_log.AUDIT_LOG] = text
    with simulated(machine):
        for words in (["log"], ["log", "--json"], ["log", "--queue", "0a.0002"], ["metrics"], ["status"]):
            said = run("--sim", "x", *words)
            assert said.code == Exit.OK
            require_answer(said)
            for line in said.err.splitlines(keepends=True):
                require_line(line)
    before = machine.kernel.to_json(), machine.ledger
    assert prepare(machine, b"<domain xmlns:ap='urn:apvfio:guest:1'").code == Exit.REQUEST
    assert (machine.kernel.to_json(), machine.ledger) == before
    start_guest(machine, a_request("0", "1", 3))
    held = audit_log.replayed(audit_log.read(machine.files))
    assert held[mdev(3)] == holders(machine.ledger)[mdev(3)]
    release_guest(machine, guest(2))
    release_guest(machine, guest(3))
    assert not {mdev(2), mdev(3)} & set(audit_log.replayed(audit_log.read(machine.files)))
    return machine


def require_repaired(text: str) -> None:
    """What the end of the audit log lacks is told at once, as found out late."""
    machine = lived()
    machine.files.texts[audit_log.AUDIT_LOG] = text
    reconcile_host(machine)
    assert audit_log.replayed(audit_log.read(machine.files)) == holders(machine.ledger)
    told = machine.files.texts[audit_log.AUDIT_LOG]
    reconcile_host(machine)
    assert machine.files.texts[audit_log.AUDIT_LOG] == told


@pytest.mark.parametrize(("number", "name"), FIELDS, ids=str)
def test_everything_in_it_replaced(number: int, name: str) -> None:
    lines = LOGGED.splitlines()
    for value in ANYTHING:
        item = {**json.loads(lines[number]), name: value}
        require_harmless("\n".join([*lines[:number], json.dumps(item), *lines[number + 1 :]]) + "\n")


@pytest.mark.parametrize("cut", range(0, len(LOGGED), 43))
def test_cut_at_either_end(cut: int) -> None:
    require_harmless(LOGGED[:cut])
    require_harmless(LOGGED[cut:])
    require_repaired(LOGGED[:cut])


@trying(60)
@given(st.data())
def test_anything_put_in(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(LOGGED)))
    end = begin + data.draw(st.sampled_from([0, 1, 30]))
    pieces = st.sampled_from(
        ["\n", "\0", "{", "[" * 50_000, '"', "\ud800", "9" * 5000, "\x85", "\u2028", "\r", "}\n{"]
    )
    require_harmless(LOGGED[:begin] + data.draw(pieces | st.text(max_size=5)) + LOGGED[end:])


def test_lines_in_any_order() -> None:
    lines = LOGGED.splitlines(keepends=True)
    require_harmless("".join(reversed(lines)))
    require_harmless("".join(lines * 3))
    require_harmless("".join(lines[::2]))


def test_a_guest_that_is_refused_for_ever_does_not_fill_the_disk() -> None:
    machine = Machine()
    refused = to_line(Event(1.0, "refused", guest="g9", text="no" * 1000))
    machine.files.texts[audit_log.AUDIT_LOG] = refused * (audit_log.OVERFULL // 2 // len(refused))
    for _ in range(1000):
        audit_log.note(machine.files, Event(2.0, "refused", guest="g9", text="no" * 1000))
    assert audit_log.OVERFULL < machine.files.size(audit_log.AUDIT_LOG) < audit_log.OVERFULL + 10_000
    start_guest(machine, a_request("0", "1"))
    assert machine.files.size(audit_log.AUDIT_LOG) < 10_000
    assert machine.files.size(f"{audit_log.AUDIT_LOG}.1") > audit_log.OVERFULL


def open_to_all(path: Path, _: Planted) -> None:
    path.mkdir()
    path.chmod(0o777)


def too_large(path: Path, _: Planted) -> None:
    with path.open("wb") as file:
        file.truncate(TOO_LARGE)
    path.chmod(0o600)


@pytest.mark.parametrize("plant", [*KINDS, open_to_all, too_large])
@pytest.mark.parametrize(
    "place", [BELOW, audit_log.AUDIT_LOG, f"{audit_log.AUDIT_LOG}.1", f"{audit_log.AUDIT_LOG}.9"]
)
def test_what_is_planted_in_its_place_costs_no_guest_its_start(
    tmp_path: Path, place: str, plant: Callable[[Path, Planted], None]
) -> None:
    planted = Planted(tmp_path)
    path = planted.path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    plant(path, planted)
    assert prepare(planted.system, domain()) == (Exit.OK, "", "")
    assert planted.untouched()
    refused = prepare(planted.system, domain('<ap:matrix adapters="77" domains="1"/>'))
    require_sentence(refused, Exit.HOST)
    assert "adapter 77" in refused.err
    with simulated(planted.system):  # type: ignore[arg-type]
        for words in (["log"], ["log", "--queue", "00.0001"]):
            said = run("--sim", "x", *words)
            if said.code:
                require_sentence(said)
                assert place in said.err
        assert run("--sim", "x", "status").code == Exit.OK
    assert prepare(planted.system, domain(), "release") == (Exit.OK, "", "")
    assert planted.untouched()
    assert planted.system.files.read("run/apvfio/ledger.json") is not None


@pytest.mark.parametrize("plant", [*KINDS, open_to_all, too_large])
def test_a_full_audit_log_goes_on_beside_what_is_planted(
    tmp_path: Path, plant: Callable[[Path, Planted], None]
) -> None:
    planted = Planted(tmp_path)
    files = planted.system.files
    files.append(audit_log.AUDIT_LOG, LOGGED * (2 * (1 << 20) // len(LOGGED)))
    plant(planted.path(f"{audit_log.AUDIT_LOG}.1"), planted)
    for operation in ("prepare", "release"):
        assert prepare(planted.system, domain(), operation) == (Exit.OK, "", "")
        assert planted.untouched()
    newest = [event for event in audit_log.read(files, newest=1) if event]
    assert [event.kind for event in newest][-2:] == ["started", "stopped"]

# SPDX-License-Identifier: Apache-2.0
"""Tickets in the waiting room that another version, or a fault, has left: who has the lock is not misled."""

from __future__ import annotations

import fcntl
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.engine.calls import Acquire, answer_of, parse_call, raise_from
from apvfio.kernel.snapshot import read_host
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError, ConflictError, Exit
from apvfio.model.matrix import Apqn
from apvfio.sim.kernel import SimKernel
from apvfio.store.system import RealSystem
from apvfio.store.waiting import ROOM
from documents import changed, places
from hostility import KINDS, MDEV, domain, prepare, require_line, trying
from hosts import IBM_DOMAINS, a_request

if TYPE_CHECKING:
    from pathlib import Path

CALLS: tuple[dict[str, Any], ...] = (
    Acquire(a_request("1", "27", 2)).as_json(),
    Acquire(a_request("1", "27", 2)._replace(wish=Criteria("cca"))).as_json(),
)
REFUSED = answer_of(ConflictError("it is taken.", guest="db2", queues=[Apqn(1, 1)]))


@pytest.fixture
def system(tmp_path: Path) -> RealSystem:
    """A real waiting room before a simulated kernel."""
    made = RealSystem(str(tmp_path))
    made.sysfs = SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
    (tmp_path / ROOM).mkdir(parents=True)
    (tmp_path / "run/apvfio").chmod(0o700)
    return made


def check(system: RealSystem, room: Path, line: bytes) -> None:
    """Whatever waits besides, the guest that starts gets its queues, and all goes home again."""
    ticket = room / "00000000000000000001-2"
    before = read_host(system.sysfs)
    with open(ticket, "w+b") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        owner.write(line)
        owner.flush()
        assert prepare(system, domain()) == (Exit.OK, "", "")
        assert MDEV in read_host(system.sysfs).mdevs
    for operation in ("release", "reconnect"):
        assert prepare(system, domain(), operation) == (Exit.OK, "", "")
    assert read_host(system.sysfs) == before
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("call", CALLS, ids=["acquire", "wish"])
def test_everything_in_a_call_replaced_by_every_kind_of_thing(call: dict[str, Any]) -> None:
    for way in places(call):
        for value in KINDS:
            document = changed(call, way, value)
            if isinstance(document, dict):
                parse_call(document)


def test_some_of_them_in_the_room(system: RealSystem, tmp_path: Path) -> None:
    for number, call in enumerate(CALLS):
        for way in list(places(call))[number::2]:
            for value in KINDS[number::7]:
                document = changed(call, way, value)
                check(system, tmp_path / ROOM, json.dumps(document).encode() + b"\n")


@trying(20)
@given(
    st.binary(max_size=50)
    | st.sampled_from([b"[" * 5000 + b"\n", b"{}\n" * 5000, b'{"call": NaN}\n', b"\xff\n", b"x" * 70_000])
)
def test_bytes_in_the_room(tmp_path_factory: pytest.TempPathFactory, line: bytes) -> None:
    directory = tmp_path_factory.mktemp("tickets")
    made = RealSystem(str(directory))
    made.sysfs = SimKernel.new(adapters={0: "accel", 1: "cca", 10: "ep11"}, domains=IBM_DOMAINS)
    (directory / ROOM).mkdir(parents=True)
    (directory / "run/apvfio").chmod(0o700)
    check(made, directory / ROOM, line)


def test_everything_in_an_answer_replaced_by_every_kind_of_thing() -> None:
    for way in places(REFUSED):
        for value in KINDS:
            document = changed(REFUSED, way, value)
            if not isinstance(document, dict):
                continue
            try:
                raise_from(document)
            except ApvfioError as error:
                require_line(f"{error}\n")

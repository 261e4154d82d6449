# SPDX-License-Identifier: Apache-2.0
"""The file of the drains: what is written is read again, and what was spoilt is refused in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apvfio.model.drain import Drain, MovedGuest
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Area
from apvfio.model.policy import DRAINS
from apvfio.store.drain_file import (
    DamagedDrainsError,
    drained_area,
    load_drains,
    parse_drains,
    save_drains,
)
from apvfio.store.policy_file import read_policy
from hosts import BOOT, a_matrix, guest
from json_documents import changed, places
from memory_host import Machine

MOVED = MovedGuest("g1", guest(1), a_matrix("10", "1-2"), BOOT, 77)
DRAIN_LIST = [
    Drain(
        Area(IdSet([10]), IdSet([27])),
        1_700_000_000,
        moved=(MOVED,),
        stopped=("db 1", "Zoë"),
        overrides={Apqn(10, 4): "vfio_ap"},
    ),
    Drain(Area(everything=True), 1_700_000_001, restoring=True),
]
SPOILT: tuple[Any, ...] = (None, True, -1, 1.5, "", "x", "0-999", [], ["x"], {}, {"x": 1})


def test_what_is_written_is_read() -> None:
    files = Machine().files
    save_drains(files, DRAIN_LIST)
    assert load_drains(files) == DRAIN_LIST
    save_drains(files, [])
    assert DRAINS not in files.texts
    assert load_drains(files) == []


def test_the_policy_has_what_is_drained_and_not_being_restored() -> None:
    files = Machine().files
    assert not read_policy(files).drained.holds(Apqn(10, 1))
    save_drains(files, DRAIN_LIST)
    drained = read_policy(files).drained
    assert drained == Area(IdSet([10]), IdSet([27]))
    assert [drained.holds(Apqn(*queue)) for queue in ((10, 1), (1, 27), (1, 1))] == [True, True, False]
    assert drained_area([DRAIN_LIST[1]._replace(restoring=False), DRAIN_LIST[0]]).everything


def test_whatever_is_spoilt_is_refused_or_harmless() -> None:
    files = Machine().files
    save_drains(files, DRAIN_LIST)
    document = json.loads(files.texts[DRAINS])
    refused = set()
    for way in places(document):
        for value in SPOILT:
            try:
                parse_drains(json.dumps(changed(document, way, value)))
            except DamagedDrainsError as error:
                refused.add(error.sentence)
    assert len(refused) > 50
    assert all(sentence.startswith(f"/{DRAINS} is damaged: ") for sentence in refused)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 5000, '{"version": 2, "drains": []}'])
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(DamagedDrainsError, match="Move the file away"):
        parse_drains(text)


def test_a_guest_that_is_moved_twice_goes_back_to_where_it_began() -> None:
    drain = Drain(Area(everything=True), 1).with_moved(MOVED)
    assert drain.with_moved(MOVED._replace(before=a_matrix("1", "1"))).moved == (MOVED,)
    later = MOVED._replace(since=78, before=a_matrix("1", "1"))
    assert drain.with_moved(later).moved == (later,)

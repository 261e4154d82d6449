# SPDX-License-Identifier: Apache-2.0
"""The ledger on paper: what is written is read back, what is damaged is refused."""

from __future__ import annotations

import json

import pytest

from apvfio.model.errors import ApvfioError
from apvfio.model.host import MaskBits
from apvfio.model.ids import NO_IDS, IdSet
from apvfio.model.ledger import BY_DOMAINS, ENDING, Ledger
from apvfio.store.ledger_file import LEDGER, VERSION, load, save
from hosts import BOOT, NO_LEASES, a_lease, a_ledger
from memory_host import Faults, FaultyFiles


class Paper(FaultyFiles):
    """Files in a dictionary, of which only the owner may read any."""

    def __init__(self, text: str | None = None) -> None:
        super().__init__(Faults())
        if text is not None:
            self.texts[LEDGER] = text

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        assert mode == 0o600
        super().write(path, text, mode)


FULL = a_ledger(a_lease("0,10", "1-2"), a_lease("1", "4", 2, BY_DOMAINS, ENDING))._replace(
    pending=MaskBits(IdSet([0, 10]), IdSet([4]))
)


@pytest.mark.parametrize("ledger", [NO_LEASES, FULL])
def test_what_is_saved_is_loaded(ledger: Ledger) -> None:
    paper = Paper()
    save(paper, ledger)
    assert load(paper, BOOT) == ledger


def test_a_person_can_read_it() -> None:
    paper = Paper()
    save(paper, FULL)
    document = json.loads(paper.texts[LEDGER])
    assert document["pending"] == {"apmask": "0,10", "aqmask": "4", "overrides": {}}
    assert document["leases"][0]["adapters"] == "0,10"
    assert paper.texts[LEDGER].count("\n") > 10


def test_no_ledger_and_one_of_another_boot_are_empty() -> None:
    assert load(Paper(), BOOT) == NO_LEASES
    paper = Paper()
    save(paper, FULL)
    assert load(paper, "another") == Ledger("another", {})


def broken(change: dict[str, object]) -> str:
    paper = Paper()
    save(paper, FULL)
    document = json.loads(paper.texts[LEDGER])
    for path, value in change.items():
        *way, last = path.split("/")
        place = document
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"version": true}',
        "[" * 100_000,
        broken({"leases": {}}),
        broken({"leases": [5]}),
        broken({"pending": None}),
        broken({"pending/apmask": "9-1"}),
        broken({"pending/aqmask": 4}),
        broken({"leases/0/state": "asleep"}),
        broken({"leases/0/freed_by": "both"}),
        broken({"leases/0/created": 1}),
        broken({"leases/0/adapters": ""}),
        broken({"leases/0/adapters": "256"}),
        broken({"leases/0/guest": None}),
        broken({"last_given": {"u": "0"}}),
        broken({"last_given": {"u": {"adapters": "0"}}}),
    ],
)
def test_a_damaged_ledger_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ApvfioError, match="is damaged") as caught:
        load(Paper(text), BOOT)
    assert "\n" not in str(caught.value)


def test_former_choices_are_kept() -> None:
    paper = Paper()
    ledger = FULL.with_last_given("u", a_lease("1", "4").matrix)
    save(paper, ledger)
    assert load(paper, BOOT) == ledger
    document = json.loads(paper.texts[LEDGER])
    assert document["last_given"] == {"u": {"adapters": "1", "domains": "4", "control_domains": ""}}


def test_a_newer_ledger_is_left_to_the_newer_program() -> None:
    with pytest.raises(ApvfioError, match="newer apvfio"):
        load(Paper(broken({"version": VERSION + 1})), BOOT)


def test_a_ledger_of_the_version_before_keeps_all_but_the_keys() -> None:
    """Those had no time, and are read again; a downgrade finds a newer ledger, not a damaged one."""
    before = broken({"version": 1, "last_seen_mkvps": {"0a.0001": ["ab" * 8]}})
    assert load(Paper(before), BOOT) == FULL
    assert VERSION > 1


def test_what_leases_need() -> None:
    assert FULL.needed_bits() == MaskBits(IdSet([0, 10]), NO_IDS)
    assert FULL.mdevs_to_remove() == {a_lease("1", "4", 2).mdev}
    assert bool(FULL.pending)
    assert not MaskBits()

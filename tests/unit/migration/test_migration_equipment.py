# SPDX-License-Identifier: Apache-2.0
"""Whether the queues at the destination do what those here do."""

from __future__ import annotations

import json

import pytest

from apvfio.migration.compare_queues import Equipment, compare, equipment_from, read_equipment
from apvfio.model.errors import HostError
from apvfio.model.matrix import Apqn
from apvfio.sim.kernel import SimKernel
from apvfio.store import mkvps_note
from hosts import IBM_DOMAINS
from memory_host import IBM_ADAPTERS, Machine

Q, R = Apqn(10, 1), Apqn(1, 2)
A, B = ("aa11",), ("bb22",)
LONG_AGO = "1970-01-01T00:00:00.000+00:00"


def cca(keys: tuple[str, ...] | None = None, generation: int = 7) -> Equipment:
    return Equipment("cca", generation, keys)


@pytest.mark.parametrize(
    ("here", "there", "warnings"),
    [
        ({Q: cca(A)}, {Q: cca(A)}, []),
        ({Q: cca(A)}, {R: cca(A)}, []),
        ({Q: cca(A)}, {Q: cca(A, 8)}, []),
        ({Q: cca(A), R: cca(B)}, {Apqn(3, 3): cca(B)}, []),
        ({Q: Equipment("accel", 7, None)}, {Q: Equipment("accel", 7, ())}, []),
        ({Q: cca(A)}, {Q: cca(A, 6)}, ["0a.0001 at the destination are of an older generation than here"]),
        (
            {Q: cca()},
            {Q: cca(A)},
            ["it cannot be read whether 0a.0001 at the destination have the same master keys"],
        ),
        (
            {Q: cca(A)},
            {Q: cca()},
            ["it cannot be read whether 0a.0001 at the destination have the same master keys"],
        ),
        ({}, {}, []),
    ],
)
def test_what_is_alike(
    here: dict[Apqn, Equipment], there: dict[Apqn, Equipment], warnings: list[str]
) -> None:
    assert compare(here, there) == warnings


@pytest.mark.parametrize(
    ("here", "there", "says"),
    [
        ({Q: cca(A)}, {Q: cca(B)}, "0a.0001 at the destination have other master keys than here"),
        ({Q: cca(A)}, {Q: cca(())}, "0a.0001 at the destination have no master keys, unlike here"),
        ({Q: cca(A), R: cca(B)}, {Q: cca(B)}, "0a.0001 at the destination have other master keys"),
    ],
)
def test_other_keys(here: dict[Apqn, Equipment], there: dict[Apqn, Equipment], says: str) -> None:
    with pytest.raises(HostError, match=says) as caught:
        compare(here, there)
    assert caught.value.queues == (Q,)
    assert "--other-keys" in caught.value.remedy
    assert len(compare(here, there, other_keys=True)) == 1


def old(keys: tuple[str, ...], when: str) -> Equipment:
    return Equipment("cca", 7, keys, when)


def test_remembered_keys_are_no_proof_and_the_sentence_says_since_when() -> None:
    early, late = "2026-01-31T11:00:00Z", "2026-02-01T11:00:00Z"
    with pytest.raises(
        HostError, match=rf"have other master keys than here \(remembered here since {early}\)"
    ):
        compare({Q: old(A, early)}, {Q: cca(B)})
    assert compare({Q: old(A, late), R: old(A, early)}, {Q: cca(A), R: old(A, late)}) == [
        "01.0002, 0a.0001 at the destination have the same master keys as here "
        f"(remembered here since {early}, there since {late}): a key ceremony may have changed them since"
    ]


@pytest.mark.parametrize("there", [Equipment("ep11", 7, A), Equipment("", 0, None)])
@pytest.mark.parametrize("here", [{Q: cca(A)}, {R: cca(A)}, {}])
def test_another_mode_is_no_choice(here: dict[Apqn, Equipment], there: Equipment) -> None:
    with pytest.raises(HostError, match=r"0a\.0001 is (ep11|of no known mode) at the destination"):
        compare(here, {Q: there}, other_keys=True)


def test_it_is_read_from_a_host() -> None:
    machine = Machine(SimKernel.new(adapters=IBM_ADAPTERS, domains=IBM_DOMAINS))
    held = Apqn(10, 1)
    machine.kernel.write("bus/ap/apmask", "-10")
    machine.files.append(mkvps_note.MKVPS, f"{LONG_AGO} {held} WK CUR: valid 0xAA11\n")
    machine.kernel.state.queues[Apqn(1, 1)].mkvps = "AES CUR: valid 0xBB22"
    queues = [Apqn(0, 1), Apqn(1, 1), held, Apqn(7, 7)]
    found = read_equipment(machine, machine.host, queues)
    assert [one.mode for one in found.values()] == ["accel", "cca", "ep11", ""]
    assert found[held] == Equipment("ep11", 8, A, LONG_AGO)
    assert found[Apqn(1, 1)] == Equipment("cca", 8, B)
    assert found[Apqn(7, 7)] == Equipment("", 0, None)
    text = json.dumps({str(queue): one.as_json() for queue, one in found.items()})
    assert equipment_from(json.loads(text)) == found


@pytest.mark.parametrize(
    "document",
    [
        *(None, [], "x", 1, {"x": {}}, {"0a.0001": []}, {"0a.0001": {}}),
        {"0a.0001": {"mode": 1, "generation": 1, "mkvps": None}},
        {"0a.0001": {"mode": "cca", "generation": True, "mkvps": None}},
        {"0a.0001": {"mode": "cca", "generation": 1, "mkvps": "x"}},
        {"0a.0001": {"mode": "cca", "generation": 1, "mkvps": [1]}},
        {"0a.0001": {"mode": "cca", "generation": 1, "mkvps": [], "remembered_since": 1}},
        {"0a.0001": {"mode": "cca", "generation": 1, "mkvps": [], "remembered_since": "x" * 41}},
    ],
)
def test_what_is_not_understood(document: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        equipment_from(document)

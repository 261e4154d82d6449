# SPDX-License-Identifier: Apache-2.0
"""A ledger that somebody or something has spoilt: it is refused, and nobody's host is changed by it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.errors import ApvfioError, Exit
from apvfio.model.host import MaskBits
from apvfio.model.ids import IdSet
from apvfio.model.ledger import Claim
from apvfio.model.matrix import Apqn
from apvfio.model.process import Process
from apvfio.store.ledger_file import LEDGER, VERSION, load, save
from hostile_input import (
    KINDS,
    domain,
    prepare,
    require_answer,
    require_line,
    require_sentence,
    run,
    simulated,
    trying,
)
from hosts import BOOT, a_lease, a_ledger, a_matrix, guest, mdev
from json_documents import Way, changed, places
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = a_ledger(a_lease("0,10", "1-2", 2))._replace(
    pending=MaskBits(IdSet([0, 10]), IdSet([4])),
    overrides={Apqn(1, 4): "cex4queue"},
    offline_queues=frozenset([Apqn(0, 1)]),
    mechanism="masks",
    last_given={guest(3): a_matrix("1", "4")},
    last_holder={Apqn(1, 1): "db9"},
    claims={mdev(7): Claim(mdev(7), a_matrix("1", "27"), "adapters", Process(4_000_000, 5))},
)
COMMANDS = (["status"], ["status", "--json"], ["release", "g2"])


def written() -> dict[str, Any]:
    """What the full ledger is on paper."""
    machine = Machine()
    save(machine.files, FULL)
    document: dict[str, Any] = json.loads(machine.files.texts[LEDGER])
    return document


DOCUMENT = written()


def replaced(way: Way, value: Any) -> str:
    """The ledger with one thing replaced."""
    return json.dumps(changed(DOCUMENT, way, value))


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def commands(machine: Machine) -> Iterator[Machine]:
    """The machine that --sim works on."""
    with simulated(machine):
        yield machine


def check(machine: Machine, text: str, *, thorough: bool = True) -> bool:
    """Whether the ledger is refused: then no call changes anything. If not, none is at a loss."""
    machine.files.texts[LEDGER] = text
    before = machine.snapshot()
    try:
        load(machine.files, BOOT)
    except ApvfioError as error:
        require_line(f"{error}\n")
        require_sentence(prepare(machine, domain()), Exit.FAILURE)
        for operation in ("release", "reconnect") if thorough else ():
            said = prepare(machine, domain(), operation)
            assert said.code == Exit.OK
            require_line(said.err)
        assert machine.snapshot() == before
        return True
    require_answer(prepare(machine, domain()))
    return False


@pytest.mark.parametrize("way", list(places(DOCUMENT)), ids=lambda way: "/".join(map(str, way)) or "all")
def test_everything_in_it_replaced_by_every_kind_of_thing(commands: Machine, way: Way) -> None:
    refused = 0
    for value in KINDS:
        text = replaced(way, value)
        was_refused = check(commands, text, thorough=not refused)
        refused += was_refused
        for words in COMMANDS[: refused == 1] if was_refused else COMMANDS:
            commands.files.texts[LEDGER] = text
            require_answer(run("--sim", "x", *words))
        if not was_refused:
            renew(commands)
    assert refused >= 5 or way[:1] in (("boot_id",), ("last_holder",), ("last_given",))


def renew(machine: Machine) -> None:
    """Forget what an accepted ledger had the host become."""
    fresh = Machine()
    machine.kernel.state = fresh.kernel.state


def test_it_is_cut_at_every_byte(machine: Machine) -> None:
    text = json.dumps(DOCUMENT)
    for length in range(len(text)):
        machine.files.texts[LEDGER] = text[:length]
        with pytest.raises(ApvfioError, match="is damaged") as caught:
            load(machine.files, BOOT)
        require_line(f"{caught.value}\n")
    for length in (0, 1, len(text) // 2, len(text) - 1):
        assert check(machine, text[:length])


@pytest.mark.parametrize("way", [way for way in places(DOCUMENT) if way and isinstance(way[-1], str)])
def test_a_thing_is_missing(machine: Machine, way: Way) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    place = document
    for step in way[:-1]:
        place = place[step]
    del place[way[-1]]
    check(machine, json.dumps(document))


@trying(100)
@given(st.data())
def test_bytes_of_it_are_changed(data: st.DataObject) -> None:
    text = json.dumps(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = begin + data.draw(st.integers(0, 3))
        put = data.draw(
            st.text(max_size=3) | st.sampled_from(["{", "[", '"', "1e999", "NaN", "\\ud800", "-0"])
        )
        text = text[:begin] + put + text[end:]
    check(Machine(), text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"version": 1' + "0" * 5000 + "}",
        '{"version": 1, "version": "x"}',
        '{"version": NaN}',
        f'{{"version": {VERSION + 1}, "boot_id": 5}}',
        '{"version": -1}',
        "\ufeff" + json.dumps(DOCUMENT),
        json.dumps(DOCUMENT) * 2,
        replaced(("leases",), DOCUMENT["leases"] * 2),
        replaced(("leases", 0, "mdev"), "../../../bus/ap/apmask"),
        replaced(("leases", 0, "uuid"), "-x"),
        replaced(("overrides",), {}).replace('"cex4queue"', '"a\\nb"'),
        replaced(("pending", "overrides"), {"01.0004": "x" * 5000}),
        replaced(("claims", 0, "mdev"), "x/y"),
        replaced(("claims",), DOCUMENT["claims"] * 2),
        "\0",
    ],
    ids=lambda text: ascii(text[:30]),
)  # fmt: skip
def test_what_nobody_would_write_is_refused(machine: Machine, text: str) -> None:
    assert check(machine, text)


def test_that_of_another_boot_counts_for_nothing_whatever_it_says(machine: Machine) -> None:
    for value in KINDS:
        machine.files.texts[LEDGER] = replaced(("leases",), value).replace(BOOT, "another")
        assert load(machine.files, BOOT).leases == {}


def test_a_newer_one_is_left_alone(machine: Machine) -> None:
    for version in (VERSION + 1, 10**18):
        text = replaced(("version",), version)
        assert check(machine, text)
        assert machine.files.texts[LEDGER] == text

# SPDX-License-Identifier: Apache-2.0
"""Texts that people, tools and the kernel write: masks, the policy, definitions, zkey's files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.criteria_texts import parse_options
from apvfio.model.errors import Exit, RequestError
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet, format_hex, format_list, parse_hex
from apvfio.model.mask_grammar import parse_list, parse_mask_spec
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.persistent_masks import RULE, StoredMasks, format_rule, parse_rule
from apvfio.store.definitions import FOLDER, load_definition, matrix_of
from apvfio.store.policy_file import POLICY, parse_policy, read_times
from hostile_input import (
    HOSTDEV,
    KINDS,
    MDEV,
    UUID,
    domain,
    prepare,
    require_line,
    require_sentence,
    run,
    simulated,
    trying,
)
from memory_host import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = """\
mechanism = "masks"
prefer = ""
[reserve]
queues = ["01.001b"]
adapters = "0xc-0xf"
[keep]
cca = 1
[time]
lock-wait = 5
"""
PIECES = [
    "", "\0", "\n", "\r", "\x1b[31m", "\u202e", "\ud800", "-", "+", ",", "0x", "0X", "08", "٣", "²", "_",
    "256", "9" * 5000, "0-255", "1-", "-1", "--", "0x-1", " ", "\t", "1" + ",1" * 70_000, "a" * 70_000, "=",
    '"', "'", "[", "]", "{", "}", "[[reserve]]\n", "[reserve]\n", "a.b.c = 1\n", "x = " + "[" * 2000,
    "mechanism = 1\n", "x = 1979-05-27T07:32:00Z\n", "nan",
]  # fmt: skip
hostile = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=4).map("".join)
NO_DEVICE_XML = f"<domain><name>d</name><uuid>{UUID}</uuid><devices>{HOSTDEV}</devices></domain>".encode()


def refusal(parse: Callable[[], object]) -> str | None:
    """The sentence with which a text is refused, None if it is not; RequestError alone refuses."""
    try:
        parse()
    except RequestError as error:
        require_line(f"{error}\n")
        return str(error)
    return None


@trying(200)
@given(hostile | st.sampled_from([format_hex(ALL_IDS), "0-255"]))
def test_masks(text: str) -> None:
    for parse in (parse_list, parse_mask_spec, parse_hex, Matrix.from_ap_config):
        refusal(lambda parse=parse: parse(text))  # type: ignore[misc]
    queue = Apqn.parse(text)
    assert queue is None or str(queue) == text
    if refusal(lambda: parse_list(text)) is None:
        assert parse_list(format_list(parse_list(text))) == parse_list(text)


@trying(100)
@given(st.sets(st.integers(0, 255)).map(IdSet), st.data())
def test_a_mask_of_the_kernels_that_is_changed_is_another_mask_or_none(
    ids: IdSet, data: st.DataObject
) -> None:
    text = format_hex(ids)
    assert parse_hex(text + "\n") == ids
    place = data.draw(st.integers(0, len(text)))
    spoilt = text[:place] + data.draw(st.sampled_from(PIECES) | st.characters()) + text[place + 1 :]
    if refusal(lambda: parse_hex(spoilt)) is None:
        assert (
            format_hex(parse_hex(spoilt)).removeprefix("0x")
            == spoilt.removesuffix("\n").removeprefix("0x").lower()
        )


@trying(100)
@given(hostile, st.lists(hostile, max_size=2), st.none() | hostile)
def test_criteria_as_options(text: str, cards: list[str], control: str | None) -> None:
    refusal(lambda: parse_options(text, cards, control))
    refusal(lambda: parse_options(f"mode=cca,{text}", (), control))
    refusal(lambda: parse_options("", [f"mode=ep11,adapters=1,{one}" for one in cards], control))


def policy_refused(machine: Machine, text: str) -> bool:
    """Whether a policy is refused: then nobody starts, nothing changes, and a running guest is let go."""
    machine.files.texts[POLICY] = text
    before = machine.snapshot()
    if refusal(lambda: parse_policy(text)) is None:
        return False
    require_sentence(prepare(machine, domain()), Exit.REQUEST)
    assert machine.snapshot() == before
    assert read_times(machine.files).lock_wait == 60
    return True


@trying(150)
@given(st.data())
def test_a_policy_with_something_put_in(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(WHOLE)))
    end = begin + data.draw(st.sampled_from([0, 1, 10]))
    policy_refused(Machine(), WHOLE[:begin] + data.draw(hostile) + WHOLE[end:])


@pytest.mark.parametrize(
    "text",
    [
        "mode" + ".a" * 2_000 + " = 1",
        "a" + ".a" * 2_000 + " = 1",
        "mechanism = " + "[" * 20_000,
        "mechanism = " + "[" * 200 + "]" * 200,
        "mechanism = {" + "a = {" * 20_000,
        "[keep]\ncca = " + "9" * 5000,
        "[keep]\ncca = 0x" + "f" * 5000,
        "[keep]\ncca = 1e400",
        "[keep]\ncca = nan",
        "[keep]\ncca = true",
        "[reserve]\nqueues = 5",
        "[reserve]\nqueues = [5, {}]",
        '[reserve]\nqueues = ["\\u001b[31m"]',
        '[reserve]\nadapters = "' + "0," * 100_000 + '"',
        '"\\n\\u001b" = 1',
        '"' + "x" * 70_000 + '" = 1',
        "reserve = 1",
        "[[reserve]]",
        "mechanism = 'masks'\nmode = 'masks'",
        "[reserve]\n[reserve]",
        "\ufeffmode = 'masks'\r\n",
        "mechanism = 'masks'\0",
        "\ufffd\ufffd",
        "mechanism = 1979-99-99",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_a_policy_nobody_would_write_is_refused(text: str) -> None:
    assert policy_refused(Machine(), text)


@trying(150)
@given(st.data())
def test_stored_masks(data: st.DataObject) -> None:
    rule = format_rule(StoredMasks(ALL_IDS, NO_IDS))
    begin = data.draw(st.integers(0, len(rule)))
    end = begin + data.draw(st.sampled_from([0, 1, 20]))
    text = rule[:begin] + data.draw(hostile) + rule[end:]
    refusal(lambda: parse_rule(text))
    machine = Machine()
    machine.files.texts[RULE] = text
    before = machine.kernel.to_json()
    with simulated(machine):
        said = run("--sim", "x", "masks", "-p")
    if said.code:
        require_sentence(said, Exit.REQUEST)
    assert (machine.kernel.to_json(), machine.files.texts) == (before, {RULE: text})


DEFINITION = {
    "mdev_type": "vfio_ap-passthrough",
    "start": "auto",
    "attrs": [{"assign_adapter": "0"}, {"assign_domain": "1"}],
}


def definition_refused(machine: Machine, text: str) -> bool:
    """Whether a definition is refused: then the guest that names it is, and nothing changes."""
    machine.files.texts[f"{FOLDER}/{MDEV}"] = text
    before = machine.snapshot()

    def parse() -> None:
        found = load_definition(machine.files, MDEV)
        if found:
            matrix_of(found)

    if refusal(parse) is None:
        return False
    require_sentence(prepare(machine, NO_DEVICE_XML), Exit.REQUEST)
    assert machine.snapshot() == before
    assert machine.files.texts[f"{FOLDER}/{MDEV}"] == text
    return True


@pytest.mark.parametrize("value", KINDS, ids=lambda value: ascii(value)[:20])
def test_everything_in_a_definition_replaced(value: Any) -> None:
    machine = Machine()
    for change in (
        value,
        {**DEFINITION, "mdev_type": value},
        {**DEFINITION, "start": value},
        {**DEFINITION, "attrs": value},
        {**DEFINITION, "attrs": [value]},
        {**DEFINITION, "attrs": [{"assign_adapter": value}]},
        {**DEFINITION, "attrs": [{"ap_config": value}]},
        {**DEFINITION, "attrs": [{"x\x1b\n": value}]},
        {**DEFINITION, "attrs": [{"assign_adapter": "0", "assign_domain": value}]},
        {**DEFINITION, "more": value},
    ):
        definition_refused(machine, json.dumps(change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"mdev_type": "vfio_ap-passthrough", "attrs": ' + "[" * 900 + "]" * 900 + "}",
        '{"mdev_type": "vfio_ap-passthrough", "start": ' + "[" * 900 + "]" * 900 + "}",
        '{"mdev_type": "vfio_ap-passthrough", "attrs": [' + "[" * 900 + "]" * 900 + "]}",
        '{"mdev_type": 1' + "0" * 5000 + "}",
        json.dumps(DEFINITION)[:-1],
        "\ufeff" + json.dumps(DEFINITION),
        "\0" * 5000,
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_a_definition_nobody_would_write_is_refused(text: str) -> None:
    assert definition_refused(Machine(), text)


@trying(60)
@given(hostile)
def test_a_repository_of_zkeys(text: str) -> None:
    machine = Machine()
    machine.files.texts["etc/zkey/repository/\x1b\u202e\ud800.info"] = f"apqns={text}\napqns=00.0001\n{text}"
    before = machine.snapshot()
    require_sentence(prepare(machine, domain()), Exit.POLICY)
    assert machine.snapshot() == before

# SPDX-License-Identifier: Apache-2.0
"""Masks: chzdev's grammar and texts, the kernel's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.errors import RequestError
from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet, format_change, format_hex, format_list, parse_hex
from apvfio.model.mask_grammar import parse_id, parse_list, parse_mask_spec

id_sets = st.sets(st.integers(0, 255)).map(IdSet)

IBM_APMASK = ALL_IDS - IdSet([0, 10])
IBM_AQMASK = ALL_IDS - IdSet([1, 2, 4])


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("5", [5]),
        ("0,0xa", [0, 10]),
        ("0XA,0x0B", [10, 11]),
        ("010", [8]),
        ("0", [0]),
        ("00", [0]),
        ("1-3,2", [1, 2, 3]),
        ("0x10-0x12", [16, 17, 18]),
        ("5-5", [5]),
        ("5,", [5]),
        (",5", [5]),
        ("5,,6", [5, 6]),
        ("5, 6", [5, 6]),
        ("255", [255]),
    ],
)
def test_a_list_is_read_as_chzdev_reads_it(text: str, ids: list[int]) -> None:
    assert parse_list(text) == IdSet(ids)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        ",,",
        "08",
        "0x",
        "x",
        "5-",
        "-5",
        "+5",
        "5 ",
        "5 ,6",
        "all",
        "256",
        "0-256",
        "1--2",
        "1-2-3",
        "0x100",
        "99999999999999999999",
        "5;6",
        "1,-2",
        "1,+2",
        "½",
        "٣",
        "1_0",
        "0x1_0",
        "0b1",
        "0o7",
        "0x" + "f" * 64,
    ],
)
def test_a_bad_list_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(RequestError, match="the attribute adapters is") as caught:
        parse_list(text, "the attribute adapters")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["9-1", "-9-1", "+9-1", "0xa-9"])
def test_a_reversed_range_is_refused_where_chzdev_frees_the_whole_mask(text: str) -> None:
    with pytest.raises(RequestError, match="runs backwards"):
        parse_mask_spec(text)


@pytest.mark.parametrize(
    "text", ["--5", "+-5", "++5", "-5-+7", "-1,2", "1,-2", "1,+2", "-", "+", "-5-", "-,"]
)
def test_signs_that_chzdev_misreads_are_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_mask_spec(text)


@pytest.mark.parametrize(
    ("apmask", "aqmask"),
    [
        ("-0x0,-0xa", "-0x0001,-0x0002,-0x0004"),
        ("-0,-10", "-1,-2,-4"),
        ("-0,-10", "-1-2,-4"),
        ("1-9,11-255", "0,3,5-255"),
    ],
)
def test_ibms_four_forms_yield_the_same_masks(apmask: str, aqmask: str) -> None:
    assert parse_mask_spec(apmask).apply(ALL_IDS) == IBM_APMASK
    assert parse_mask_spec(aqmask).apply(ALL_IDS) == IBM_AQMASK
    assert format_list(IBM_APMASK) == "1-9,11-255"
    assert format_list(IBM_AQMASK) == "0,3,5-255"


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("-1,+1", [1, 2], [1, 2]),
        ("+1,-1", [1, 2], [2]),
        ("-1-3,+2", [0, 1, 2, 3], [0, 2]),
        ("3", [1, 2], [3]),
    ],
)
def test_changes_count_from_left_to_right(text: str, before: list[int], after: list[int]) -> None:
    assert parse_mask_spec(text).apply(IdSet(before)) == IdSet(after)


@pytest.mark.parametrize(
    ("ids", "text"),
    [([], ""), ([3], "3"), ([1, 2], "1-2"), ([0, 3, 4, 5, 9], "0,3-5,9"), (range(256), "0-255")],
)
def test_lists_are_written_as_chzdev_writes_them(ids: list[int], text: str) -> None:
    assert format_list(IdSet(ids)) == text


def test_the_kernels_text_has_id_0_leftmost() -> None:
    assert format_hex(IBM_APMASK) == "0x7fdf" + "f" * 60
    assert format_hex(IBM_AQMASK) == "0x97ff" + "f" * 60
    assert format_hex(NO_IDS) == "0x" + "0" * 64
    assert parse_hex(format_hex(IdSet([255])) + "\n") == IdSet([255])


@pytest.mark.parametrize(
    "text", ["", "0x", "0x41", "0x" + "g" * 64, "0x" + "f" * 65, "0x" + "f" * 63 + " ", "²" * 64]
)
def test_text_that_is_no_kernel_mask_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="64 hexadecimal digits"):
        parse_hex(text, "/sys/bus/ap/apmask")


def test_a_change_is_written_with_commas_because_without_them_it_is_a_range() -> None:
    assert format_change(IdSet([5, 9]), IdSet([1, 2, 3])) == "-5,-9,+1-3"
    assert format_change(NO_IDS) == ""


@given(id_sets)
def test_every_set_survives_both_notations(ids: IdSet) -> None:
    assert parse_hex(format_hex(ids)) == ids
    if ids:
        assert parse_list(format_list(ids)) == ids


@given(id_sets, id_sets)
def test_sets_behave_as_pythons_do(a: IdSet, b: IdSet) -> None:
    assert set(a | b) == set(a) | set(b)
    assert set(a & b) == set(a) & set(b)
    assert set(a - b) == set(a) - set(b)
    assert (a <= b) == (set(a) <= set(b))
    assert len(a) == len(set(a))
    assert bool(a) == bool(set(a))
    assert all((i in a) == (i in set(a)) for i in range(-1, 257))


@given(id_sets, id_sets, id_sets)
def test_a_written_change_does_what_it_says(base: IdSet, clear: IdSet, add: IdSet) -> None:
    add -= clear
    if clear or add:
        assert parse_mask_spec(format_change(clear, add)).apply(base) == (base - clear) | add


def test_a_set_does_not_change_and_can_be_a_key() -> None:
    ids = IdSet([1])
    with pytest.raises(AttributeError):
        ids.bits = 5
    assert {ids: "x"}[IdSet([1])] == "x"
    assert ids != "1"
    assert repr(ids) == "IdSet<1>"


@pytest.mark.parametrize("bad", [[-1], [256]])
def test_ids_end_at_255(bad: list[int]) -> None:
    with pytest.raises(ValueError, match=r"not in 0\.\.255"):
        IdSet(bad)
    with pytest.raises(ValueError, match="256 bits"):
        IdSet.from_bits(1 << 256)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("0x1B", 27), ("017", 15), ("9", 9), ("", None), ("0x", None)]
)
def test_one_number_as_strtoul_reads_it(text: str, value: int | None) -> None:
    assert parse_id(text) == value

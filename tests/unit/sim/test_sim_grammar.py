# SPDX-License-Identifier: Apache-2.0
"""The kernel's parsers, as they were observed in code compiled from the kernel and on real machines."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from apvfio.model.ids import ALL_IDS, NO_IDS, IdSet, format_hex, format_list
from apvfio.model.mask_grammar import parse_list
from apvfio.sim import grammar

if TYPE_CHECKING:
    from collections.abc import Callable

F64 = "f" * 64


def ids(text: str) -> IdSet:
    return parse_list(text) if text else NO_IDS


def refused(parse: Callable[[str], object], text: str) -> str:
    """The name of the errno that ``text`` is refused with."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        parse(text)
    return errno.errorcode[caught.value.errno or 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x41\n", "1,7"),
        ("41", "1,7"),
        ("x41", "1,7"),
        ("0x1", "3"),
        ("0xAbC", "0,2,4,6-9"),
        (F64, "0-255"),
        (f"{F64}\n", "0-255"),
        (f"0x{F64}", "0-255"),
        (f"0x{F64}\n", "0-255"),
        (f"0x{'0' * 63}1", "255"),
        ("\n", ""),
        ("0\n", ""),
        ("0x\n", ""),
        ("x\n", ""),
        ("\0junk", ""),
        ("8\0junk", "0"),
    ],
)
def test_an_absolute_mask(text: str, expected: str) -> None:
    assert format_list(grammar.parse_mask(text, IdSet([77]))) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("0X41", " 0x41", "0x41 ", "0x41\r\n", "0x41\n\n", f"0x{F64}f", f"{F64}f", "0x4g", "xx1", "00x1"),
        *(",-5", "\N{FULLWIDTH DIGIT FOUR}"),
    ],
)
def test_no_absolute_mask(text: str) -> None:
    assert refused(lambda t: grammar.parse_mask(t, ALL_IDS), text) == "EINVAL"


@pytest.mark.parametrize("mask", ["", "0", "255", "1,7-9,254", "0-255"])
def test_what_the_kernel_prints_it_reads(mask: str) -> None:
    assert grammar.parse_mask(f"{format_hex(ids(mask))}\n", ALL_IDS) == ids(mask)


@pytest.mark.parametrize(
    ("text", "cleared"),
    [
        ("-5", "5"),
        ("-5,", "5"),
        ("-0x10", "16"),
        ("-0X10", "16"),
        ("-010", "8"),
        ("-0", "0"),
        ("-5-9", "5-9"),
        ("-5-5", "5"),
        ("-5+6", "5"),
        ("-5,+6", "5"),
        ("-5\n-6\n", "5-6"),
        ("-5,,-6", "5-6"),
        ("-5-6-7", "5-7"),
        ("-5,+5", ""),
        ("+5,-5", "5"),
        ("-0-255,+1", "0,2-255"),
        ("+0-255", ""),
        ("-5\0-6", "5"),
    ],
)
def test_edits(text: str, cleared: str) -> None:
    assert grammar.parse_mask(text, ALL_IDS) == ALL_IDS - ids(cleared)


def test_edits_start_from_the_current_mask() -> None:
    assert grammar.parse_mask("+1,-2", IdSet([2, 3])) == IdSet([1, 3])


@pytest.mark.parametrize(
    "text",
    [
        *("-5,6", "-5, -6", "--5", "- 5", "-", "+", "-5-", "-a", "-08", "-256", "-0-256", "-6-5", "-5-+6"),
        *("-0x", "-3x", "-0b1", "+0xg", "-5 ", "-5\r\n", "-18446744073709551621"),
    ],
)
def test_no_edits(text: str) -> None:
    assert refused(lambda t: grammar.parse_mask(t, ALL_IDS), text) == "EINVAL"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8,4,2", ("0", "1", "2")),
        ("0x8,0x4,0x2\n", ("0", "1", "2")),
        ("8,4\n", ("0", "1", "")),
        ("8,4,", ("0", "1", "")),
        ("8\n4\n2\n", ("0", "1", "2")),
        (",,", ("", "", "")),
        ("8,4,2,junk", ("0", "1", "2")),
        (f"0x{F64},0x{F64},0x{F64}\n", ("0-255", "0-255", "0-255")),
        (f"0x{F64},0x{F64},0x{F64}\njunk", ("0-255", "0-255", "0-255")),
    ],
)
def test_ap_config(text: str, expected: tuple[str, str, str]) -> None:
    assert grammar.parse_ap_config(text) == tuple(map(ids, expected))


@pytest.mark.parametrize(
    "text", ["8,4", "\n", "8", "8, 4,2", "+0,+1,+2", f"{F64}f,1,1", "8,4,g", f"{F64},{F64},{F64}f"]
)
def test_no_ap_config(text: str) -> None:
    assert refused(grammar.parse_ap_config, text) == "EINVAL"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0", 0), ("5", 5), ("5\n", 5), ("+5", 5), ("0x1B", 27), ("0X1b", 27), ("010", 8), ("5\0x", 5)),
        ("18446744073709551615", (1 << 64) - 1),
    ],
)
def test_kstrtoul(text: str, expected: int) -> None:
    assert grammar.kstrtoul(text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        *((text, "EINVAL") for text in ("08", "ab", " 5", "5 ", "-5", "0b1", "00.0005", "\n", "5\n\n")),
        *((text, "EINVAL") for text in ("++5", "0x", "0x1g", "0o7", "1_0", "\N{FULLWIDTH DIGIT FIVE}")),
        ("18446744073709551616", "ERANGE"),
        ("99999999999999999999x", "ERANGE"),
        ("0x10000000000000000", "ERANGE"),
    ],
)
def test_no_kstrtoul(text: str, error: str) -> None:
    assert refused(grammar.kstrtoul, text) == error


@pytest.mark.parametrize(
    ("text", "i", "d"),
    [
        *((" \t\n5x", 5, 5), ("0x10", 16, 0), ("010", 8, 10), ("-3", -3, -3), ("08", 0, 8), ("0", 0, 0)),
        ("4294967301", 5, 5),
        ("2147483648", -(1 << 31), -(1 << 31)),
        ("99999999999999999999", -1, -1),
    ],
)
def test_sscanf(text: str, i: int, d: int) -> None:
    assert (grammar.sscanf_i(text), grammar.sscanf_d(text)) == (i, d)


@pytest.mark.parametrize("text", ["", "x5", "+5", "- 5", "\n", "--5"])
def test_no_sscanf(text: str) -> None:
    assert refused(grammar.sscanf_i, text) == refused(grammar.sscanf_d, text) == "EINVAL"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("1", "y", "Yes", "t", "TRUE", "on", "ON\n", "only", "10"), True),
        (("0", "n", "No", "f", "False", "off", "oF", "01"), False),
    ],
)
def test_kstrtobool(texts: tuple[str, ...], expected: bool) -> None:
    for text in texts:
        assert grammar.kstrtobool(text, long_bools=False) is expected


@pytest.mark.parametrize("text", ["2", "o", "ox", "\n", "", " 1", "-", "enable", "disable"])
def test_no_kstrtobool(text: str) -> None:
    assert refused(lambda t: grammar.kstrtobool(t, long_bools=False), text) == "EINVAL"


def test_7_2_knows_more_bools() -> None:
    assert grammar.kstrtobool("Enable", long_bools=True)
    assert not grammar.kstrtobool("disable", long_bools=True)


@pytest.mark.parametrize("end", ["", "\n", "X", "\0"])
def test_a_uuid_and_any_character_after_it(end: str) -> None:
    uuid = "1111AAAA-1111-4111-8111-11111111aaaa"
    assert grammar.parse_uuid(f"{uuid}{end}") == uuid.lower()


@pytest.mark.parametrize(
    "text",
    [
        "11111111-1111-4111-8111-11111111111",
        "1111111-11111-4111-8111-111111111111",
        "1111111g-1111-4111-8111-111111111111",
        "11111111-1111-4111-8111-111111111111XY",
        "{11111111-1111-4111-8111-11111111111}",
        "",
    ],
)
def test_no_uuid(text: str) -> None:
    assert refused(grammar.parse_uuid, text) == "EINVAL"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            ("vfio_ap", "vfio_ap"),
            ("vfio_ap\n", "vfio_ap"),
            ("vfio_ap \n", "vfio_ap "),
            ("a\nb", "a"),
            ("\n", ""),
        ),
        ("\nvfio_ap", ""),
        ("a\0b", "a"),
        ("x" * 4094, "x" * 4094),
    ],
)
def test_an_override(text: str, expected: str) -> None:
    assert grammar.parse_override(text) == expected


def test_an_override_that_could_not_be_shown_again() -> None:
    assert refused(grammar.parse_override, "x" * 4095) == "EINVAL"


@pytest.mark.parametrize(
    "text", ["add", "change\n", "bind\0", "remove 11111111-1111-4111-8111-111111111111 A=b"]
)
def test_an_action(text: str) -> None:
    grammar.check_action(text)


@pytest.mark.parametrize("text", ["adds", "ad", "\n", "\0", " add", "add\n\n"])
def test_no_action(text: str) -> None:
    assert refused(grammar.check_action, text) == "EINVAL"


def test_a_device_name_may_end_with_one_newline() -> None:
    assert [grammar.device_name(t) for t in ("00.0001", "00.0001\n", "00.0001\n\n")] == [
        "00.0001",
        "00.0001",
        "00.0001\n",
    ]

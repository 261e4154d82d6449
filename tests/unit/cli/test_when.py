# SPDX-License-Identifier: Apache-2.0
"""Times as people write them."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apvfio.cli.log import parse_time
from apvfio.view.clock import local

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone with summer time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", utc(2026, 1, 30, 23)),
        ("2026-07-31", utc(2026, 7, 30, 22)),
        ("2026-01-31 12:00", utc(2026, 1, 31, 11)),
        ("2026-01-31T12:00:30", utc(2026, 1, 31, 11, 0, 30)),
        ("2026-01-31T12:00:00+00:00", utc(2026, 1, 31, 12)),
        ("2026-01-31T12:00:00Z", utc(2026, 1, 31, 12)),
        ("10:00", utc(2026, 11, 23, 9)),
        ("10:00:01", utc(2026, 11, 23, 9, 0, 1)),
        ("today", utc(2026, 11, 22, 23)),
        ("yesterday", utc(2026, 11, 21, 23)),
        ("90s", utc(2026, 11, 23, 13, 58, 30)),
        ("5m", utc(2026, 11, 23, 13, 55)),
        ("2h", utc(2026, 11, 23, 12)),
        ("3d", utc(2026, 11, 20, 14)),
        ("1w", utc(2026, 11, 16, 14)),
    ],
)
def test_what_people_write(text: str, expected: float) -> None:
    now = datetime(2026, 11, 23, 15).astimezone()
    assert parse_time(text, now) == expected


@pytest.mark.usefixtures("berlin")
def test_the_clock_that_was_changed_this_morning() -> None:
    """On the day summer time ends midnight is an offset away from noon."""
    noon = datetime(2026, 10, 25, 12).astimezone()
    assert parse_time("today", noon) == utc(2026, 10, 24, 22)
    assert parse_time("01:00", noon) == utc(2026, 10, 24, 23)
    assert parse_time("yesterday", noon) == utc(2026, 10, 23, 22)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-2h", "2 h", "2y", "25:00", "12:60", "12", "2026-02-30", "0001-01-01", "9999999w", "1e3",
     "999999w", "tomorrow", "\u0662h", "2026-01-31\n", "x" * 10_000],
    ids=lambda text: ascii(text[:20]),
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is not a time: write 2026-01-31"):
        parse_time(text)


@given(st.text(max_size=12).filter(lambda text: not set(text) & set("0123456789")))
def test_what_is_said_of_a_text_without_digits_can_be_shown(text: str) -> None:
    assume(text not in ("today", "yesterday"))
    with pytest.raises(ArgumentTypeError) as refused:
        parse_time(text)
    assert str(refused.value).isprintable()


@given(st.integers(0, (1 << 37) - 1))
def test_what_is_shown_can_be_asked_for(seconds: int) -> None:
    again = parse_time(local(seconds))
    # An hour that the clock goes through twice is taken for the first.
    assert again in (seconds, seconds - 3600)

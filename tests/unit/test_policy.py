# SPDX-License-Identifier: Apache-2.0
"""The administrator's policy file."""

from __future__ import annotations

import pytest

from apvfio.errors import Exit, RequestError
from apvfio.matrix import Apqn
from apvfio.policy import Policy, parse_policy


def test_no_file_reserves_nothing() -> None:
    assert parse_policy(None) == Policy() == parse_policy("")
    assert not Policy().reserves(Apqn(0, 0))


def test_queues_adapters_and_domains() -> None:
    policy = parse_policy('[reserve]\nqueues = ["01.001b"]\nadapters = "0xa"\ndomains = "80-84"\n')
    reserved = [Apqn(1, 27), Apqn(10, 0), Apqn(3, 84)]
    assert all(policy.reserves(queue) for queue in reserved)
    assert not policy.reserves(Apqn(1, 28))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("reserve = 1", "not a table"),
        ("[reserve", "not valid TOML"),
        ("[reserved]\n", "'reserved', did you mean reserve?"),
        ("[reserve]\nqueue = []", "'queue', did you mean queues?"),
        ("[zzz]\n", "known are mode, prefer, reserve"),
        ('[reserve]\nqueues = "01.001b"', "not a list"),
        ('[reserve]\nqueues = ["1.1b"]', "'1.1b', which is no queue"),
        ("[reserve]\nqueues = [5]", "'5', which is no queue"),
        ("[reserve]\nadapters = [1]", "not a text"),
        ('[reserve]\ndomains = "9-1"', "runs backwards"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_policy(text)
    assert says in str(caught.value)
    assert "apvfio.toml" in str(caught.value)
    assert caught.value.code == Exit.REQUEST


def test_the_mode_preferred() -> None:
    assert parse_policy('mode = "overrides"').mode == "overrides"
    assert parse_policy("").mode == ""
    for text in ('mode = "both"', "mode = 5"):
        with pytest.raises(RequestError, match="neither masks nor overrides"):
            parse_policy(text)
    assert parse_policy('prefer = "domains"').prefer == "domains"
    with pytest.raises(RequestError, match="neither adapters nor domains"):
        parse_policy('prefer = "rows"')

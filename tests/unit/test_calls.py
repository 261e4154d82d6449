# SPDX-License-Identifier: Apache-2.0
"""Calls and their answers survive the way through a ticket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.engine.calls import Acquire, answer_of, parse_call, raise_from
from apvfio.model.criteria import Criteria
from apvfio.model.errors import ApvfioError, ConflictError
from apvfio.model.ids import IdSet
from apvfio.model.matrix import Apqn, Matrix
from apvfio.model.request import Request
from hosts import guest, mdev

ids = st.frozensets(st.integers(0, 255)).map(IdSet)
some = st.frozensets(st.integers(0, 255), min_size=1).map(IdSet)
uuids = st.uuids().map(str)
wishes = st.builds(
    Criteria,
    st.sampled_from(["cca", "ep11"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 9),
    st.sampled_from(["", "0123456789abcdef", "ab" * 32]),
    ids,
)
requests = st.builds(
    Request,
    st.text(),
    uuids,
    uuids,
    st.builds(Matrix, some, some, ids),
    st.sampled_from(["", "adapters"]),
    st.none() | wishes,
)


@given(st.builds(Acquire, requests))
def test_there_and_back(call: Acquire) -> None:
    assert parse_call(json.loads(json.dumps(call.as_json()))) == call


@pytest.mark.parametrize(
    "change", [{"call": "dance"}, {"matrix": ["x"]}, {"matrix": ["", "1", ""]}, {"wish": 3}]
)
def test_what_is_not_understood_is_left(change: dict[str, object]) -> None:
    call = Acquire(Request("g", guest(1), mdev(1), Matrix(IdSet([1]), IdSet([2]))))
    assert parse_call(call.as_json()) == call
    assert parse_call(call.as_json() | change) is None


def kinds(kind: type[ApvfioError] = ApvfioError) -> list[type[ApvfioError]]:
    """Every class of error that a start or a stop may end with."""
    found = [kind, *(sub for below in kind.__subclasses__() for sub in kinds(below))]
    return [one for one in found if one.__module__ == ApvfioError.__module__]


@pytest.mark.parametrize("kind", kinds())
def test_an_error_is_told_as_it_was(kind: type[ApvfioError]) -> None:
    facts: dict[str, object] = {name: 16 if name == "errno" else f"the {name}" for name in kind.facts}
    error = kind("it is so.", remedy="Do this.", **facts).for_guest("g")  # type: ignore[arg-type]
    error.queues = (Apqn(1, 2),)
    with pytest.raises(kind) as told:
        raise_from(json.loads(json.dumps(answer_of(error))))
    assert type(told.value) is kind
    assert told.value.as_json() == error.as_json()
    assert (str(told.value), told.value.code) == (str(error), error.code)
    assert told.value.__dict__ == error.__dict__


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.kind for kind in kinds()}) == len(kinds())


def test_an_unknown_kind_is_a_failure() -> None:
    told = {**ConflictError("it is so.").as_json(), "kind": "of tomorrow"}
    with pytest.raises(ApvfioError) as raised:
        raise_from({"error": told})
    assert type(raised.value) is ApvfioError


def test_no_error_is_raised_from_a_good_answer() -> None:
    raise_from(answer_of(None))

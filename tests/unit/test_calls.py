# SPDX-License-Identifier: Apache-2.0
"""Calls and their answers survive the way through a ticket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.calls import Acquire, Release, answer_of, parse_call, raise_from
from apvfio.errors import (
    ApvfioError,
    ConflictError,
    HostError,
    KernelRefusedError,
    PolicyError,
    RequestError,
)
from apvfio.mask import IdSet
from apvfio.matrix import Apqn, Matrix
from apvfio.request import Request
from apvfio.wish import Wish
from hosts import guest, mdev

ids = st.frozensets(st.integers(0, 255)).map(IdSet)
some = st.frozensets(st.integers(0, 255), min_size=1).map(IdSet)
uuids = st.uuids().map(str)
wishes = st.builds(
    Wish,
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


@given(st.builds(Acquire, requests) | st.builds(Release, uuids))
def test_there_and_back(call: Acquire | Release) -> None:
    assert parse_call(json.loads(json.dumps(call.as_json()))) == call


@pytest.mark.parametrize(
    "change", [{"call": "dance"}, {"matrix": ["x"]}, {"matrix": ["", "1", ""]}, {"wish": 3}]
)
def test_what_is_not_understood_is_left(change: dict[str, object]) -> None:
    call = Acquire(Request("g", guest(1), mdev(1), Matrix(IdSet([1]), IdSet([2]))))
    assert parse_call(call.as_json()) == call
    assert parse_call(call.as_json() | change) is None


@pytest.mark.parametrize("kind", [ApvfioError, ConflictError, HostError, PolicyError, RequestError])
def test_an_error_is_told_as_it_was(kind: type[ApvfioError]) -> None:
    error = kind("it is so.", remedy="Do this.", guest="g", queues=[Apqn(1, 2)])
    with pytest.raises(kind) as told:
        raise_from(json.loads(json.dumps(answer_of(error))))
    assert told.value.as_json() == error.as_json()
    assert (str(told.value), told.value.code) == (str(error), error.code)


def test_a_refusal_of_the_kernel_stays_a_failure() -> None:
    error = KernelRefusedError("no.", errno=16, path="p", value="v")
    with pytest.raises(ApvfioError, match=r"^no\.$") as told:
        raise_from(answer_of(error))
    assert told.value.code == error.code


def test_no_error_is_raised_from_a_good_answer() -> None:
    raise_from(answer_of(None))

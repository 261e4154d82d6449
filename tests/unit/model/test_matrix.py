# SPDX-License-Identifier: Apache-2.0
"""Queues and rectangles of queues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.errors import RequestError
from apvfio.model.ids import IdSet
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Apqn, Matrix

id_sets = st.sets(st.integers(0, 255), max_size=5).map(IdSet)
matrices = st.builds(Matrix, id_sets, id_sets, id_sets)


def test_a_queue_is_written_as_the_kernel_writes_it() -> None:
    assert str(Apqn(10, 27)) == "0a.001b"
    assert Apqn.parse("0a.001b") == Apqn(10, 27)
    assert f"{Apqn(255, 255)}" == "ff.00ff"


@pytest.mark.parametrize(
    "text", ["", "card0a", "0a.001B", "0a.01b", "a.001b", "0a.0100", "0a:001b", "+a.001b", "0a. 01b"]
)
def test_other_names_are_no_queue(text: str) -> None:
    assert Apqn.parse(text) is None


@given(st.integers(0, 255), st.integers(0, 255))
def test_every_queue_survives_its_name(adapter: int, domain: int) -> None:
    assert Apqn.parse(str(Apqn(adapter, domain))) == Apqn(adapter, domain)


def test_a_matrix_is_a_rectangle() -> None:
    matrix = Matrix(parse_list("0,0xa"), parse_list("1-2"))
    assert [str(queue) for queue in matrix.queues()] == ["00.0001", "00.0002", "0a.0001", "0a.0002"]
    assert matrix.holds(Apqn(10, 2))
    assert not matrix.holds(Apqn(1, 2))
    assert str(matrix) == "adapters 0,10, domains 1-2"
    assert str(Matrix()) == "adapters none, domains none"


@given(matrices, matrices)
def test_an_overlap_holds_what_both_hold(a: Matrix, b: Matrix) -> None:
    both = a.overlap(b)
    assert set(both.queues()) == set(a.queues()) & set(b.queues())
    assert both.empty == (not list(both.queues()))


@given(matrices)
def test_ap_config_is_read_as_it_is_written(matrix: Matrix) -> None:
    assert Matrix.from_ap_config(matrix.as_ap_config() + "\n") == matrix


def test_ap_config_of_the_real_kernel() -> None:
    zeros = "0" * 60
    text = f"0x8020{zeros},0x6000{zeros},0x4000{zeros}\n"
    assert Matrix.from_ap_config(text) == Matrix(IdSet([0, 10]), IdSet([1, 2]), IdSet([1]))


@pytest.mark.parametrize("text", ["", "\n", "0x80,0x40,0x40", "0x" + "0" * 64])
def test_a_malformed_ap_config_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="ap_config"):
        Matrix.from_ap_config(text)

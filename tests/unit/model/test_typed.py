# SPDX-License-Identifier: Apache-2.0
"""The hook's own `NamedTuple` beside that of `typing`."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apvfio.model.typed import NamedTuple

if typing.TYPE_CHECKING:
    from collections.abc import Callable


class Ours(NamedTuple):
    """As apvfio's are."""

    first: int
    second: str = "b"
    third: tuple[int, ...] = ()

    @property
    def doubled(self) -> int:
        """A property of its own."""
        return self.first * 2


class Theirs(typing.NamedTuple):
    """The same."""

    first: int
    second: str = "b"
    third: tuple[int, ...] = ()

    @property
    def doubled(self) -> int:
        """A property of its own."""
        return self.first * 2


NAMES = st.sampled_from(["first", "second", "third", "fourth"])
VALUES = st.integers(0, 3)


def outcome(call: Callable[..., object], *values: object, **named: object) -> object:
    """What came of it; of an error only its kind."""
    try:
        found = call(*values, **named)
    except (TypeError, ValueError, AttributeError) as error:
        return type(error)
    return (tuple(found), repr(found).partition("(")[2]) if isinstance(found, tuple) else found


@given(st.lists(VALUES, max_size=4), st.dictionaries(NAMES, VALUES))
def test_it_is_made_like_theirs(values: list[int], named: dict[str, int]) -> None:
    assert outcome(Ours, *values, **named) == outcome(Theirs, *values, **named)
    assert outcome(Ours._make, values) == outcome(Theirs._make, values)


@given(st.dictionaries(NAMES, VALUES))
def test_it_is_changed_like_theirs(named: dict[str, int]) -> None:
    theirs = outcome(Theirs(1)._replace, **named)
    # Before Python 3.13 a name that is none was a ValueError.
    assert outcome(Ours(1)._replace, **named) == (TypeError if theirs is ValueError else theirs)


def test_it_is_a_tuple_with_names() -> None:
    one, other = Ours(1, third=(4,)), Theirs(1, third=(4,))
    assert (one.first, one.second, one.third, one.doubled) == (1, "b", (4,), 2)
    assert (one._asdict(), one._fields, Ours._field_defaults) == (
        other._asdict(),
        other._fields,
        Theirs._field_defaults,
    )
    same: tuple[object, ...] = other
    assert one == same == (1, "b", (4,))
    assert hash(one) == hash(other)
    assert sorted([Ours(2), Ours(1)]) == [Ours(1), Ours(2)]


def test_it_holds_nothing_else_and_does_not_change() -> None:
    one = Ours(1)
    for name in ("first", "fourth"):
        with pytest.raises(AttributeError):
            setattr(one, name, 2)
    assert not hasattr(one, "__dict__")


def test_it_is_copied_and_pickled() -> None:
    one = Ours(1, "c", (2,))
    for made in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (made, type(made)) == (one, Ours)


def test_an_error_names_what_is_missing() -> None:
    with pytest.raises(TypeError, match="Ours has the fields first, second, third"):
        Ours()  # type: ignore[call-arg]


def test_a_default_in_the_midst_is_refused() -> None:
    with pytest.raises(TypeError, match="without a default"):

        class Wrong(NamedTuple):
            first: int = 1
            second: int  # type: ignore[misc]

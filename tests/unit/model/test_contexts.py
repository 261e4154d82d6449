# SPDX-License-Identifier: Apache-2.0
"""`apvfio.model.contexts` beside `contextlib`."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from apvfio.model import contexts

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTH = pytest.mark.parametrize("library", [contexts, contextlib], ids=["apvfio", "contextlib"])


@BOTH
@pytest.mark.parametrize(("raised", "goes_on"), [(None, True), (KeyError("k"), True), (OSError(1), False)])
def test_suppress(library: ModuleType, raised: Exception | None, goes_on: bool) -> None:
    reached = False

    def act() -> None:
        nonlocal reached
        with library.suppress(LookupError, ValueError):
            if raised:
                raise raised
        reached = True

    if goes_on:
        act()
    else:
        with pytest.raises(type(raised) if raised else Exception) as caught:
            act()
        assert caught.value is raised
    assert reached is goes_on


@BOTH
def test_nullcontext(library: ModuleType) -> None:
    with library.nullcontext(5) as given:
        assert given == 5
    with pytest.raises(KeyError), library.nullcontext():
        raise KeyError


@BOTH
@pytest.mark.parametrize("what", ["well", "raises", "swallows", "replaces", "twice"])
def test_contextmanager(library: ModuleType, what: str) -> None:
    said: list[str] = []

    @library.contextmanager  # type: ignore[untyped-decorator]
    def context(name: str, *, end: str) -> Iterator[str]:
        """Its docstring."""
        said.append(name)
        try:
            yield name
            if what == "twice":
                yield "again"
        except KeyError:
            if what == "raises":
                raise
            if what == "replaces":
                raise OSError(1, "other") from None
        finally:
            said.append(end)

    assert context.__doc__ == "Its docstring."
    fails: dict[str, type[BaseException]] = {
        "raises": KeyError,
        "replaces": OSError,
        "twice": RuntimeError,
    }
    error = None if what in ("well", "twice") else KeyError("k")

    def act() -> None:
        with context("begin", end="end") as given:
            assert given == "begin"
            if error:
                raise error

    if what in fails:
        with pytest.raises(fails[what]) as caught:
            act()
        assert what in ("replaces", "twice") or caught.value is error
    else:
        act()
    assert said[: 1 if what == "twice" else 2] == (["begin"] if what == "twice" else ["begin", "end"])

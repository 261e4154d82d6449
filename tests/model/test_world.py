# SPDX-License-Identifier: Apache-2.0
"""A host with all its actors, in any order hypothesis can think of: see `model.world` for the promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from apvfio.sim.profile import PROFILES
from model.figures import TOLD
from model.menu import FAULT, MEANWHILE, STRIKES, TABLE, WRITES
from model.promised import ViolationError
from model.soak import soak
from model.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.world import Op


def words(kind: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """What the operation ``kind`` can be told."""
    return st.tuples(*(choose(choice) for choice in TABLE[kind]))


def choose(choice: object) -> st.SearchStrategy[Any]:
    """One of what there is to choose from."""
    if choice is FAULT:
        return faults()
    assert isinstance(choice, Sequence)
    return st.sampled_from(choice)


def faults() -> st.SearchStrategy[Op | None]:
    """Nothing, a write that fails, the end of the process, or somebody else's act at a write."""
    struck = st.tuples(st.sampled_from(WRITES), st.sampled_from(STRIKES)).map(
        lambda pair: (pair[0], *pair[1])
    )
    others = st.sampled_from(MEANWHILE).flatmap(
        lambda kind: st.tuples(st.sampled_from(WRITES), words(kind)).map(
            lambda pair: (pair[0], "meanwhile", kind, *pair[1])
        )
    )
    return st.one_of(st.none(), st.none(), struck, others)


class Hosts(RuleBasedStateMachine):
    """A rule for each kind of operation is added below."""

    world: World

    @initialize(profile=st.sampled_from(sorted(PROFILES)))
    def boot(self, profile: str) -> None:
        """A host with one of the kernels."""
        self.world = World(profile)

    def teardown(self) -> None:
        """In the end all is as it was."""
        if hasattr(self, "world"):
            self.world.do(("settle",))
            TOLD.world.update(self.world.count)


def _rule(kind: str) -> Callable[..., None]:
    def operate(self: Hosts, told: tuple[Any, ...]) -> None:
        self.world.do((kind, *told))

    operate.__name__ = kind
    return rule(told=words(kind))(precondition(lambda self: hasattr(self, "world"))(operate))


for _kind in TABLE:
    setattr(Hosts, _kind, _rule(_kind))

TestHosts = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")(Hosts.TestCase)
TestHosts.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, print_blob=True)


def test_a_short_soak_finds_nothing() -> None:
    found = soak(3000, seed=20, tell=lambda _: None)
    assert not found.violations
    TOLD.world.update(found.counts)


def test_a_soak_would_find_an_override_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pending returns are not written down, the soak finds it and tells the shortest way there."""
    from apvfio.model.host import MaskBits
    from apvfio.model.ledger import Ledger

    forgetful = Ledger._replace

    def forget(self: Ledger, **changes: Any) -> Ledger:
        if "pending" in changes:
            changes["pending"] = MaskBits()
        return forgetful(self, **changes)

    monkeypatch.setattr(Ledger, "_replace", forget)
    found = soak(3000, seed=1, tell=lambda _: None, most=1)
    (violation,) = found.violations
    assert "without apvfio" in str(violation.error)
    assert [op[0] for op in violation.ops] == ["start"]
    with pytest.raises(ViolationError):
        violation.replay()

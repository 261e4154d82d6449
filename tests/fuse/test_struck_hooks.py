# SPDX-License-Identifier: Apache-2.0
"""Real hook processes are killed or run under limits, and the next call of any kind makes up for it."""

from __future__ import annotations

import os
import random
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from apvfio.model.errors import HostError
from apvfio.sim import fuse
from model.hooks import LOCK, NEXT, RUN, GuestEnv, Round, Strike, draw, mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

STRIKES = (
    *(
        Strike("kill", where, moment)
        for where in ("interpreter", "shell", "group")
        for moment in (0.1, 0.3, 0.5, 0.7, 0.9)
    ),
    *(Strike("descriptors", size=size) for size in (9, 10, 12, 15, 21)),
    *(Strike("memory", size=size) for size in (36, 42, 48, 60)),
    *(Strike(what, where) for what in ("full", "read-only") for where in (RUN, LOCK)),
)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestEnv]:
    try:
        fuse.load_library()
    except HostError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with mounted(tmp_path_factory.mktemp("struck")) as env:
        yield env


@pytest.mark.parametrize(
    "round_",
    [
        Round("release", strike, then, unit)
        for strike, then, unit in zip(STRIKES, cycle(NEXT), cycle((True, False, False)))
    ],
    ids=str,
)
def test_no_stop_is_lost(env: GuestEnv, round_: Round) -> None:
    env.play(round_)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_by_chance(env: GuestEnv, seed: int) -> None:
    env.play(draw(random.Random(f"struck {seed}")))

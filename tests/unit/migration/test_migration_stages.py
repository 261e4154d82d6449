# SPDX-License-Identifier: Apache-2.0
"""The steps of a migration and those back, from wherever one finds the guest."""

from __future__ import annotations

from itertools import product

import pytest

from apvfio.migration import stages
from apvfio.migration.stages import GuestPlaces, stages_ahead, stages_back
from apvfio.model.errors import ApvfioError, ConflictError, RequestError

EVERY = [GuestPlaces(*facts) for facts in product([False, True], repeat=5)]
SENSIBLE = [
    seen
    for seen in EVERY
    if seen.here != seen.there
    and not (seen.device_here and not seen.here)
    and not (seen.device_there and not seen.there)
]


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (GuestPlaces(True, False, True, False, True), ["expect", "unplug", "move", "plug", "return"]),
        (GuestPlaces(True, False, False, False, True), ["expect", "move", "plug", "return"]),
        (GuestPlaces(False, True, False, False, False), ["expect", "plug"]),
        (GuestPlaces(False, True, False, False, True), ["expect", "plug", "return"]),
        (GuestPlaces(False, True, False, True, True), ["return"]),
        (GuestPlaces(False, True, False, True, False), []),
    ],
)
def test_ahead(seen: GuestPlaces, steps: list[str]) -> None:
    assert stages_ahead(seen) == steps


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (GuestPlaces(True, False, True, False, True), ["give-up"]),
        (GuestPlaces(True, False, False, False, True), ["plug-back", "give-up"]),
        (GuestPlaces(False, True, False, False, False), ["expect-back", "move-back", "plug-back", "give-up"]),
    ],
)
def test_back(seen: GuestPlaces, steps: list[str]) -> None:
    assert stages_back(seen) == steps


@pytest.mark.parametrize("seen", [seen for seen in EVERY if seen.here == seen.there])
def test_a_guest_is_at_one_place(seen: GuestPlaces) -> None:
    for steps in (stages_ahead, stages_back):
        with pytest.raises(ConflictError if seen.here else RequestError):
            steps(seen)


def test_what_cannot_be_done() -> None:
    for way in (stages_ahead, stages_back):
        with pytest.raises(RequestError, match="no AP queues"):
            way(GuestPlaces(True, False))
        with pytest.raises(ConflictError, match="not given to it by apvfio"):
            way(GuestPlaces(True, False, device_here=True))
    with pytest.raises(ConflictError, match="has its queues there"):
        stages_back(GuestPlaces(False, True, device_there=True))


def after(seen: GuestPlaces, step: str) -> GuestPlaces:
    """Where the guest is when ``step`` is taken."""
    return {
        stages.EXPECT: seen,
        stages.UNPLUG: seen._replace(device_here=False),
        stages.MOVE: seen._replace(here=False, there=True),
        stages.PLUG: seen._replace(device_there=True),
        stages.RETURN: seen._replace(lease_here=False),
        stages.EXPECT_BACK: seen._replace(lease_here=True),
        stages.MOVE_BACK: seen._replace(here=True, there=False),
        stages.PLUG_BACK: seen._replace(device_here=True),
        stages.GIVE_UP: seen,
    }[step]


@pytest.mark.parametrize("way", [stages_ahead, stages_back])
@pytest.mark.parametrize("seen", SENSIBLE)
def test_from_wherever_a_course_is_cut_off_it_leads_to_its_end(seen: GuestPlaces, way: object) -> None:
    """Cut off after any step and begun again it comes to the same end; no guest moves with its device."""
    assert callable(way)
    try:
        steps = way(seen)
    except ApvfioError:
        return
    ends = set()
    for cut in range(len(steps) + 1):
        now = seen
        for step in steps[:cut]:
            now = after(now, step)
        for step in way(now):
            assert step not in (stages.MOVE, stages.MOVE_BACK) or not (now.device_here or now.device_there)
            now = after(now, step)
        ends.add(now)
    end = ends.pop()
    assert not ends
    assert (end.device_there, end.there) == ((True, True) if way is stages_ahead else (False, False))
    assert (end.device_here, end.here) == ((False, False) if way is stages_ahead else (True, True))


def test_every_step_has_words() -> None:
    assert set(stages.WORDS) == {
        *(stages.EXPECT, stages.UNPLUG, stages.MOVE, stages.PLUG, stages.RETURN),
        *(stages.EXPECT_BACK, stages.MOVE_BACK, stages.PLUG_BACK, stages.GIVE_UP),
    }

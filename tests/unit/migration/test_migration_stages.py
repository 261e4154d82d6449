# SPDX-License-Identifier: Apache-2.0
"""The steps of a migration and those back, from wherever the guest is found."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from apvfio.migration import stages
from apvfio.migration.places import ABSENT, HALTED, RUNS, UNKNOWN, GuestPlaces, Presence
from apvfio.migration.stages import stages_ahead, stages_back
from apvfio.model.errors import ApvfioError, ConflictError, HostError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

NO, SILENT = Presence(ABSENT), Presence(UNKNOWN, why="libvirt does not answer.")
WITH, WITHOUT = Presence(RUNS, "device"), Presence(RUNS)
LEFT, LEFT_WITHOUT = Presence(HALTED, "device"), Presence(HALTED)
BY_KERNEL = partial(stages_ahead, by_kernel=True)
WAYS = (stages_ahead, BY_KERNEL, stages_back)
EVERY = [
    GuestPlaces(*facts)
    for facts in product(
        [NO, SILENT, WITH, WITHOUT, LEFT, LEFT_WITHOUT],
        [NO, SILENT, WITH, WITHOUT, LEFT_WITHOUT],
        [False, True],
        [False, True],
    )
]


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (GuestPlaces(WITH, NO, lease_here=True), "expect unplug move plug return"),
        (GuestPlaces(WITHOUT, NO, lease_here=True), "expect move plug return"),
        (GuestPlaces(WITH, LEFT_WITHOUT, lease_here=True), "end-there expect unplug move plug return"),
        (GuestPlaces(NO, WITHOUT, lease_here=False), "expect plug return"),
        (GuestPlaces(NO, WITHOUT, lease_here=True), "expect plug return"),
        (GuestPlaces(NO, WITH, lease_here=True), "return"),
        (GuestPlaces(NO, WITH, lease_here=False, defined_here=True), "return"),
        (GuestPlaces(NO, WITH, lease_here=False), ""),
        (GuestPlaces(LEFT_WITHOUT, WITHOUT, lease_here=True), "expect plug end-here return"),
        (GuestPlaces(LEFT_WITHOUT, WITH, lease_here=False), "end-here return"),
    ],
)
def test_ahead(seen: GuestPlaces, steps: str) -> None:
    assert stages_ahead(seen) == steps.split()


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (GuestPlaces(WITH, NO, lease_here=True), "expect-same move-by-kernel return"),
        (
            GuestPlaces(WITH, LEFT_WITHOUT, lease_here=True),
            "end-there expect-same move-by-kernel return",
        ),
        # Unplugged by an earlier command it has nothing that the kernel could take along.
        (GuestPlaces(WITHOUT, NO, lease_here=True), "expect move plug return"),
        (GuestPlaces(NO, WITHOUT, lease_here=True), "expect plug return"),
        (GuestPlaces(NO, WITH, lease_here=True), "return"),
    ],
)
def test_by_the_kernel(seen: GuestPlaces, steps: str) -> None:
    assert BY_KERNEL(seen) == steps.split()


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (GuestPlaces(WITH, NO, lease_here=True), "give-up"),
        (GuestPlaces(WITHOUT, NO, lease_here=True), "plug-back give-up"),
        (GuestPlaces(WITHOUT, SILENT, lease_here=True), "plug-back give-up"),
        (GuestPlaces(WITHOUT, LEFT_WITHOUT, lease_here=True), "plug-back end-there give-up"),
        (GuestPlaces(NO, WITHOUT, lease_here=False), "expect-back move-back plug-back give-up"),
        (
            GuestPlaces(LEFT_WITHOUT, WITHOUT, lease_here=True),
            "end-here expect-back move-back plug-back give-up",
        ),
        (GuestPlaces(LEFT_WITHOUT, NO, lease_here=True), "resume plug-back give-up"),
        (GuestPlaces(LEFT_WITHOUT, LEFT_WITHOUT, lease_here=True), "end-there resume plug-back give-up"),
        (GuestPlaces(WITHOUT, NO, lease_here=False), "expect-back plug-back give-up"),
        (GuestPlaces(NO, NO, lease_here=False), "give-up"),
    ],
)
def test_back(seen: GuestPlaces, steps: str) -> None:
    assert stages_back(seen) == steps.split()


def test_nobody_resumes_a_halted_guest_unasked() -> None:
    """It may have run at the destination, and its disks with it."""
    seen = GuestPlaces(LEFT_WITHOUT, NO, lease_here=True)
    for steps in (stages_ahead, lambda seen: stages_back(seen, asked=False)):
        with pytest.raises(ConflictError, match="has halted it"):
            steps(seen)


def test_a_guest_on_both_hosts_is_left_alone() -> None:
    for here, there in product([WITH, WITHOUT], repeat=2):
        for steps in (stages_ahead, stages_back):
            with pytest.raises(ConflictError, match="it runs here and at the destination"):
                steps(GuestPlaces(here, there, lease_here=True))


def test_what_cannot_be_done() -> None:
    with pytest.raises(RequestError, match="no AP queues"):
        stages_ahead(GuestPlaces(WITHOUT, NO, lease_here=False))
    for steps in (stages_ahead, stages_back):
        with pytest.raises(ConflictError, match="not created by apvfio"):
            steps(GuestPlaces(WITH, NO, lease_here=False))
        with pytest.raises(HostError, match="does not answer"):
            steps(GuestPlaces(SILENT, NO, lease_here=True))
    with pytest.raises(HostError, match="does not answer"):
        stages_ahead(GuestPlaces(WITH, SILENT, lease_here=True))
    with pytest.raises(RequestError, match="not running"):
        stages_ahead(GuestPlaces(NO, NO, lease_here=False))
    with pytest.raises(ConflictError, match="has its queues there"):
        stages_back(GuestPlaces(NO, WITH, lease_here=False))


def plugged(presence: Presence, device: str | None) -> Presence:
    return presence._replace(device=device)


def after(seen: GuestPlaces, step: str) -> GuestPlaces:
    """Where the guest is when ``step`` is taken."""
    here, there = seen.here, seen.there
    return {
        stages.EXPECT: seen,
        stages.EXPECT_SAME: seen,
        stages.UNPLUG: seen._replace(here=plugged(here, None)),
        stages.MOVE: seen._replace(here=NO, there=here),
        stages.MOVE_BY_KERNEL: seen._replace(here=NO, there=here, lease_here=False),
        stages.PLUG: seen._replace(there=plugged(there, "device")),
        stages.END_HERE: seen._replace(here=NO, lease_here=False),
        stages.END_THERE: seen._replace(there=NO),
        stages.RETURN: seen._replace(lease_here=False, defined_here=False),
        stages.EXPECT_BACK: seen._replace(lease_here=True),
        stages.MOVE_BACK: seen._replace(here=there, there=NO),
        stages.RESUME: seen._replace(here=Presence(RUNS, here.device)),
        stages.PLUG_BACK: seen._replace(here=plugged(here, "device")),
        stages.GIVE_UP: seen,
    }[step]


@pytest.mark.parametrize("way", [stages_ahead, BY_KERNEL, stages_back])
@pytest.mark.parametrize("seen", EVERY)
def test_from_wherever_a_course_is_cut_off_it_leads_to_its_end(seen: GuestPlaces, way: object) -> None:
    """Cut off after any step and begun again it comes to the same end.

    No guest moves with its device, unless the kernel takes that along.
    """
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
            assert step != stages.MOVE or not now.here.device
            assert step != stages.MOVE_BACK or not now.there.device
            assert step != stages.MOVE_BY_KERNEL or now.here.device
            now = after(now, step)
        ends.add(now._replace(lease_here=False, defined_here=False))
    assert len(ends) == 1
    end = ends.pop()
    if way is not stages_back:
        assert (end.here, end.there) == (NO, WITH)
    else:
        assert end.here in (WITH, NO)
        assert not end.there.runs


def test_every_step_has_words() -> None:
    steps = (step for seen in EVERY for way in WAYS for step in _steps(way, seen))
    assert set(stages.WORDS) == set(steps)


def _steps(way: Callable[[GuestPlaces], list[str]], seen: GuestPlaces) -> list[str]:
    try:
        return way(seen)
    except ApvfioError:
        return []

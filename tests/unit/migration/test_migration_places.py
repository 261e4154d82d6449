# SPDX-License-Identifier: Apache-2.0
"""Where a guest is, as the exit code of a failed migration says it."""

from __future__ import annotations

from itertools import product

import pytest

from apvfio.migration.places import ABSENT, HALTED, RUNS, UNKNOWN, GuestPlaces, Presence, StrandedError
from apvfio.model.errors import ApvfioError, ConflictError, PolicyError

NO, SILENT, HALF = Presence(ABSENT), Presence(UNKNOWN), Presence(HALTED)
WITH, WITHOUT = Presence(RUNS, "device"), Presence(RUNS)


@pytest.mark.parametrize(
    ("here", "there", "moved", "code", "place", "queues"),
    [
        (WITH, NO, True, 3, "here", True),
        (WITH, HALF, True, 3, "here", True),
        (WITH, SILENT, False, 3, "here", True),
        (WITH, SILENT, True, 24, "unknown", None),
        (WITHOUT, NO, True, 20, "here", False),
        (WITHOUT, SILENT, False, 20, "here", False),
        (NO, WITH, True, 21, "there", True),
        (HALF, WITH, True, 21, "there", True),
        (NO, WITHOUT, True, 22, "there", False),
        (SILENT, WITH, True, 24, "unknown", None),
        (WITH, WITHOUT, True, 23, "both", None),
        (HALF, NO, True, 24, "unknown", None),
        (NO, HALF, True, 24, "unknown", None),
        (SILENT, SILENT, False, 24, "unknown", None),
        (NO, NO, False, 25, "nowhere", None),
    ],
)
def test_the_code_says_where_it_is(
    here: Presence, there: Presence, moved: bool, code: int, place: str, queues: bool | None
) -> None:
    error = StrandedError(
        ConflictError("a queue is taken."), GuestPlaces(here, there, lease_here=True), moved=moved
    )
    assert (error.code, error.kind) == (code, "conflict")
    assert error.sentence.startswith("a queue is taken. ")
    said = error.as_json()
    assert (said["place"], said["has_queues"]) == (place, queues)


def test_the_codes_of_commands_mean_that_it_is_here_with_its_queues() -> None:
    presences = [NO, SILENT, HALF, WITH, WITHOUT]
    for here, there, moved in product(presences, presences, [False, True]):
        for cause in (ApvfioError("no."), PolicyError("no.")):
            error = StrandedError(cause, GuestPlaces(here, there, lease_here=True), moved=moved)
            assert (error.code == cause.code) == (error.place == "here" and error.has_queues is True)


@pytest.mark.parametrize(("here", "there"), [*product([NO, SILENT, HALF, WITH], [NO, SILENT, HALF, WITHOUT])])
def test_there_is_a_sentence_for_each(here: Presence, there: Presence) -> None:
    error = StrandedError(ApvfioError("no."), GuestPlaces(here, there, lease_here=True), moved=True)
    assert error.sentence.count(".") >= 2

# SPDX-License-Identifier: Apache-2.0
"""The place of a guest during and after a migration, its queues there, and the exit codes for both. Pure."""

from __future__ import annotations

from typing import NamedTuple

from apvfio.model.errors import ApvfioError

ABSENT = "absent"
RUNS = "runs"
"""Also if an administrator has paused it."""
HALTED = "halted"
"""A migration has halted the guest: this host alone does not know whether it runs elsewhere."""
UNKNOWN = "unknown"
"""libvirt does not answer."""


class Presence(NamedTuple):
    """A guest at one host."""

    state: str
    """`ABSENT`, `RUNS`, `HALTED` or `UNKNOWN`."""
    device: str | None = None
    """The uuid of the vfio-ap device that it has."""
    why: str = ""
    """Why it is unknown, as a sentence."""

    @property
    def runs(self) -> bool:
        """Whether it certainly runs at this host."""
        return self.state == RUNS


class GuestPlaces(NamedTuple):
    """A guest at both hosts."""

    here: Presence
    there: Presence
    lease_here: bool
    """Whether apvfio holds queues for it here."""
    defined_here: bool = False
    """Whether it does not run here and has a definition here that it should have taken along."""


class Place(NamedTuple):
    """Where a guest has ended up."""

    name: str
    """``here``, ``there``, ``both``, ``nowhere`` or ``unknown``."""
    queues: bool | None
    """Whether it has its queues; None where that cannot be said."""


HERE, HERE_WITHOUT = Place("here", queues=True), Place("here", queues=False)
THERE, THERE_WITHOUT = Place("there", queues=True), Place("there", queues=False)
BOTH, NOWHERE, UNCLEAR = Place("both", None), Place("nowhere", None), Place("unknown", None)

EXIT_CODES = {HERE_WITHOUT: 20, THERE: 21, THERE_WITHOUT: 22, BOTH: 23, UNCLEAR: 24, NOWHERE: 25}
"""How ``migrate`` exits when it fails and the guest is not here with its queues: else as all commands do."""

_WORDS = {
    HERE: "It runs here with its queues.",
    HERE_WITHOUT: "It runs here without its queues.",
    THERE: "It runs at the destination with its queues.",
    THERE_WITHOUT: "It runs at the destination without its queues.",
    BOTH: "It runs on both hosts.",
    NOWHERE: "It runs neither here nor at the destination.",
}
_STATES = {
    ABSENT: "does not run it",
    RUNS: "runs it",
    HALTED: "has it halted, as a migration left it",
    UNKNOWN: "could not be asked",
}


class StrandedError(ApvfioError):
    """A migration failed, and ``place`` says where the guest is now; the rest is that of its cause."""

    facts = ("place", "has_queues")

    def __init__(self, cause: ApvfioError, seen: GuestPlaces, *, moved: bool, remedy: str = "") -> None:
        place = place_of(seen, moved=moved)
        sentence = f"{cause.sentence} {where_it_is(seen, place)}"
        super().__init__(sentence, remedy=remedy or cause.remedy, guest=cause.guest, queues=cause.queues)
        self.kind = cause.kind
        self.code = EXIT_CODES.get(place, cause.code)
        self.place = place.name
        self.has_queues = place.queues


def place_of(seen: GuestPlaces, *, moved: bool) -> Place:
    """Return where the guest is; ``moved`` says that a destination without an answer may have it."""
    here, there = seen.here, seen.there
    if here.runs and there.runs:
        return BOTH
    if here.runs and not (moved and there.state == UNKNOWN):
        return HERE if here.device else HERE_WITHOUT
    if there.runs and here.state != UNKNOWN:
        return THERE if there.device else THERE_WITHOUT
    if here.state == there.state == ABSENT:
        return NOWHERE
    return UNCLEAR


def where_it_is(seen: GuestPlaces, place: Place) -> str:
    """``place`` as a sentence."""
    unclear = f"This host {_STATES[seen.here.state]}, the destination {_STATES[seen.there.state]}."
    return _WORDS.get(place, unclear)

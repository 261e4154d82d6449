# SPDX-License-Identifier: Apache-2.0
"""The steps of a migration, and those back, by where the guest is found to be. Pure.

Nothing is noted down: where the guest runs, whether it has its device and who holds queues for it say
how far a migration has come, so whoever finds one half done can finish it or go back.

The queues here stay the guest's until it runs at the destination, and those there are its own before it
leaves. So neither the way there nor the way back can fail because somebody else took them.
"""

from __future__ import annotations

from typing import NamedTuple

from apvfio.model.errors import ConflictError, RequestError

EXPECT = "expect"
UNPLUG = "unplug"
MOVE = "move"
PLUG = "plug"
RETURN = "return"
EXPECT_BACK = "expect-back"
MOVE_BACK = "move-back"
PLUG_BACK = "plug-back"
GIVE_UP = "give-up"

WORDS = {
    EXPECT: "destination: free its queues, make its device",
    UNPLUG: "here: plug its device out; its queues stay its own",
    MOVE: "migrate it, running, with its definition",
    PLUG: "destination: plug its device in",
    RETURN: "here: return its queues",
    EXPECT_BACK: "here: free its queues, make its device",
    MOVE_BACK: "migrate it back",
    PLUG_BACK: "here: plug its device in",
    GIVE_UP: "destination: return the queues that were freed for it",
}
"""Each step in words."""


class GuestPlaces(NamedTuple):
    """Where a guest is, and what it has there."""

    here: bool
    """Whether it runs here."""
    there: bool
    """Whether it runs at the destination."""
    device_here: bool = False
    device_there: bool = False
    """Whether it has its device plugged in, here and there."""
    lease_here: bool = False
    """Whether apvfio holds queues for it here."""


def stages_ahead(seen: GuestPlaces) -> list[str]:
    """The steps until the guest has its queues at the destination, none if it has.

    ConflictError if it is on its way just now, RequestError if it runs nowhere or has no queues.
    """
    _require_one_place(seen)
    if seen.there:
        rest = [RETURN] if seen.lease_here else []
        return rest if seen.device_there else [EXPECT, PLUG, *rest]
    _require_lease(seen)
    return [EXPECT, *([UNPLUG] if seen.device_here else []), MOVE, PLUG, RETURN]


def stages_back(seen: GuestPlaces) -> list[str]:
    """The steps until the guest has its queues here, and nothing is held for it at the destination.

    The errors are those of `stages_ahead`; ConflictError also if it has arrived with its queues.
    """
    _require_one_place(seen)
    if seen.here:
        _require_lease(seen)
        return [*([] if seen.device_here else [PLUG_BACK]), GIVE_UP]
    if seen.device_there:
        raise ConflictError(
            "it runs at the destination and has its queues there.", remedy="Migrate it from there."
        )
    return [EXPECT_BACK, MOVE_BACK, PLUG_BACK, GIVE_UP]


def _require_lease(seen: GuestPlaces) -> None:
    """Only a device that apvfio made can be found again by whoever goes on, or goes back."""
    if not seen.lease_here and seen.device_here:
        remedy = "Unplug that device, then migrate the guest with 'virsh migrate'."
        raise ConflictError("its device was not given to it by apvfio.", remedy=remedy)
    if not seen.lease_here:
        raise RequestError("it has no AP queues.", remedy="Migrate it with 'virsh migrate'.")


def _require_one_place(seen: GuestPlaces) -> None:
    if seen.here and seen.there:
        sentence = "it is there both here and at the destination: somebody migrates it just now."
        raise ConflictError(sentence, remedy="Try again when that has ended.")
    if not (seen.here or seen.there):
        raise runs_nowhere()


def runs_nowhere() -> RequestError:
    """The error for a guest that runs neither here nor at the destination."""
    remedy = "Only a guest that runs has queues; 'virsh migrate --offline' moves the definition of another."
    return RequestError("it runs neither here nor at the destination.", remedy=remedy)
